//! One hostcall under way: the module's memory on one side, the host on the other.

use wasmtime::Caller;

use super::faults::Fault;
use super::host::Host;
use super::status::{Answered, Status};

/// A hostcall's access to both sides.
pub struct Call<'a> {
    caller: Caller<'a, Host>,
    fault: Option<Fault>,
}

/// Runs one hostcall: counted, recorded, and made to fail if that is its turn.
pub fn answer(
    mut caller: Caller<'_, Host>,
    name: &'static str,
    run: impl FnOnce(&mut Call<'_>) -> Answered,
) -> u32 {
    let fault = caller.data_mut().meet(name);
    if let Some(Fault::Status(status)) = fault {
        return status;
    }
    match run(&mut Call { caller, fault }) {
        Ok(()) => 0,
        Err(status) => status.0,
    }
}

impl Call<'_> {
    pub fn host(&mut self) -> &mut Host {
        self.caller.data_mut()
    }

    /// Bytes that the module shows.
    pub fn bytes(&mut self, at: u32, size: u32) -> Result<Vec<u8>, Status> {
        let memory = self.memory()?;
        let at = at as usize;
        let bytes = memory.data(&self.caller).get(at..at + size as usize);
        bytes
            .map(<[u8]>::to_vec)
            .ok_or(Status::INVALID_MEMORY_ACCESS)
    }

    /// Text that the module shows.
    pub fn text(&mut self, at: u32, size: u32) -> Result<String, Status> {
        let bytes = self.bytes(at, size)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Hands bytes over in memory that the module allocates; no bytes are a null pointer.
    pub fn give(&mut self, value: &[u8], pointer_at: u32, size_at: u32) -> Answered {
        let value = self.garbled(value);
        let at = if value.is_empty() {
            0
        } else {
            self.allocate(&value)?
        };
        self.write(pointer_at, &at.to_le_bytes())?;
        self.write(size_at, &length(&value).to_le_bytes())
    }

    /// Hands over the token of a value in the shared data.
    pub fn give_token(&mut self, token: u32, at: u32) -> Answered {
        let token = if self.fault == Some(Fault::NoCas) {
            0
        } else {
            token
        };
        self.write(at, &token.to_le_bytes())
    }

    /// Hands over a number.
    pub fn put(&mut self, at: u32, number: &[u8]) -> Answered {
        let number = self.garbled(number);
        self.write(at, &number)
    }

    /// Whether the host is to read another key in the place of the one that it is asked for.
    pub fn mistakes_key_by(&self) -> Option<usize> {
        match self.fault {
            Some(Fault::Other(n)) => Some(n),
            _ => None,
        }
    }

    /// Writes into the module's memory.
    fn write(&mut self, at: u32, bytes: &[u8]) -> Answered {
        let memory = self.memory()?;
        memory
            .write(&mut self.caller, at as usize, bytes)
            .map_err(|_| Status::INVALID_MEMORY_ACCESS)
    }

    fn garbled(&self, value: &[u8]) -> Vec<u8> {
        self.fault
            .map_or_else(|| value.to_vec(), |fault| fault.garbled(value))
    }

    fn allocate(&mut self, value: &[u8]) -> Result<u32, Status> {
        let allocate = self
            .caller
            .data()
            .allocate
            .clone()
            .ok_or(Status::INVALID_MEMORY_ACCESS)?;
        let at = allocate
            .call(&mut self.caller, length(value))
            .expect("the module allocates memory for the host");
        self.write(at, value)?;
        Ok(at)
    }

    fn memory(&self) -> Result<wasmtime::Memory, Status> {
        self.caller
            .data()
            .memory
            .ok_or(Status::INVALID_MEMORY_ACCESS)
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a value fits into the module's memory")
}
