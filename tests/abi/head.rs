//! Header maps as Envoy keeps them, and the heads of requests and answers.

use std::fmt;
use std::net::IpAddr;

/// Header lines in their order; names are in lower case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

impl Headers {
    /// The values of all lines of that name.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    /// The first line of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).first().copied()
    }

    /// The first line of that name as text; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.first(name).unwrap_or_default()).into_owned()
    }

    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    /// Leaves one line of that name: the first one's place, else the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let name = name.to_ascii_lowercase();
        let Some(place) = self.0.iter().position(|(key, _)| *key == name) else {
            return self.add(&name, value);
        };
        self.0[place].1 = value.to_vec();
        let mut n = 0;
        self.0.retain(|(key, _)| {
            n += 1;
            n - 1 <= place || *key != name
        });
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// The lines whose names are not in the list.
    pub fn without(&self, names: &[&str]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| !names.contains(&name.as_str()))
                .cloned()
                .collect(),
        )
    }

    /// The ABI's form of a header map: a count, all lengths, then all names and values, each with a zero byte behind.
    pub fn serialized(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len())
                .expect("a header is short")
                .to_le_bytes()
        };
        let mut bytes = u32::try_from(self.0.len())
            .expect("headers are few")
            .to_le_bytes()
            .to_vec();
        for (name, value) in &self.0 {
            bytes.extend(length(name.as_bytes()));
            bytes.extend(length(value));
        }
        for (name, value) in &self.0 {
            bytes.extend([name.as_bytes(), &[0], value, &[0]].concat());
        }
        bytes
    }

    /// The reverse; nothing if the bytes are not of that form.
    pub fn deserialized(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes) as usize)
        };
        let count = number(0)?;
        let mut at = 4 + count * 8;
        let mut headers = Self::default();
        for n in 0..count {
            let (name, value) = (number(4 + n * 8)?, number(8 + n * 8)?);
            let text = String::from_utf8(bytes.get(at..at + name)?.to_vec()).ok()?;
            headers.add(&text, bytes.get(at + name + 1..at + name + 1 + value)?);
            at += name + value + 2;
        }
        (at == bytes.len()).then_some(headers)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
        f.debug_list().entries(lines).finish()
    }
}

/// The beginning of a request, and what Envoy knows of it besides.
#[derive(Clone, Debug)]
pub struct Head {
    pub headers: Headers,
    /// Attributes by their paths, joined with zero bytes.
    pub properties: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    pub fn new(method: &str, path: &str) -> Self {
        let mut headers = Headers::default();
        for (name, value) in [
            (":authority", "mcp.test"),
            (":path", path),
            (":method", method),
            (":scheme", "http"),
        ] {
            headers.add(name, value.as_bytes());
        }
        let head = Self {
            headers,
            properties: Vec::new(),
        };
        head.property(&["xds", "cluster_name"], b"mcp_servers")
            .from([127, 0, 0, 1].into())
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path).header("content-type", "application/json")
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value.as_ref());
        self
    }

    pub fn authority(mut self, authority: &str) -> Self {
        self.headers.set(":authority", authority.as_bytes());
        self
    }

    /// The client's address; the port says nothing.
    pub fn from(self, address: IpAddr) -> Self {
        let peer = std::net::SocketAddr::new(address, 40_404).to_string();
        self.property(&["source", "address"], peer.as_bytes())
    }

    pub fn property(mut self, path: &[&str], value: &[u8]) -> Self {
        let path = path.join("\0").into_bytes();
        self.properties.retain(|(known, _)| *known != path);
        self.properties.push((path, value.to_vec()));
        self
    }
}

/// An answer of a server, to a client or to the filter.
#[derive(Clone, Debug)]
pub struct Reply {
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        let mut headers = Headers::default();
        headers.add(":status", status.to_string().as_bytes());
        Self {
            headers,
            body: Vec::new(),
        }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value.as_ref());
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }
}
