//! An MCP server on the Rust SDK: `rmcp_server PORT`
//!
//! What `progress` waits for comes as lines on its input, each the name of a call that may go on.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::{env, io, thread};

use axum::Router;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ProgressNotificationParam, RequestMetaObject};
use rmcp::schemars::JsonSchema;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("rmcp_server PORT")?.parse()?;
    thread::spawn(read_lines);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("on loopback port {}", listener.local_addr()?.port());
    let sessions = Arc::<LocalSessionManager>::default();
    let service = StreamableHttpService::new(|| Ok(Echo), sessions, Default::default());
    axum::serve(listener, Router::new().route_service("/mcp", service)).await?;
    Ok(())
}

struct Echo;

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Said {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Steps {
    name: String,
    steps: u32,
}

#[tool_router]
impl Echo {
    /// Says the message again.
    #[tool]
    async fn echo(&self, Parameters(said): Parameters<Said>) -> String {
        format!("Echo: {}", said.message)
    }

    /// Says the message again, and prints it: a call that ran twice is seen.
    #[tool]
    async fn count(&self, Parameters(said): Parameters<Said>) -> String {
        println!("counted {}", said.message);
        format!("Echo: {}", said.message)
    }

    /// Tells each step after a line with this name.
    #[tool]
    async fn progress(
        &self,
        Parameters(Steps { name, steps }): Parameters<Steps>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        let token = meta
            .get_progress_token()
            .ok_or_else(|| ErrorData::invalid_params("no progress token", None))?;
        let lines = lines(&name);
        for step in 1..=steps {
            if let Ok(line) = lines.acquire().await {
                line.forget();
            }
            let told = ProgressNotificationParam::new(token.clone(), step.into())
                .with_total(steps.into())
                .with_message(name.as_str());
            client
                .notify_progress(told)
                .await
                .map_err(|gone| ErrorData::internal_error(gone.to_string(), None))?;
        }
        Ok(format!("Done: {name}"))
    }
}

#[tool_handler]
impl ServerHandler for Echo {}

/// The lines with this name that no call has taken yet.
fn lines(name: &str) -> Arc<Semaphore> {
    static ALL: LazyLock<Mutex<HashMap<String, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(name.to_owned())
        .or_insert_with(|| Arc::new(Semaphore::new(0)))
        .clone()
}

fn read_lines() {
    for line in io::stdin().lines().map_while(Result::ok) {
        lines(line.trim()).add_permits(1);
    }
}
