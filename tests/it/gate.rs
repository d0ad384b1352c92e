//! A gate before an S3 server: it lets so many blocks through and holds the next ones back, so that a restore can be
//! stopped at a known point.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

/// The gate. Its threads end with the test's process.
pub struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: String,
    asked: AtomicU64,
    allowed: AtomicU64,
    read_only: AtomicBool,
}

impl Gate {
    /// Opens a gate before the server at that `http://host:port`, which lets no block through yet.
    pub fn before(endpoint: &str) -> Self {
        let server = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let state = State { server, asked: 0.into(), allowed: 0.into(), read_only: false.into() };
        let state = Arc::new(state);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self { address: listener.local_addr().unwrap(), state: state.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || state.serve(client));
            }
        });
        gate
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets that many blocks through from now on.
    pub fn let_through(&self, blocks: u64) {
        self.state.asked.store(0, SeqCst);
        self.state.allowed.store(blocks, SeqCst);
    }

    /// How many blocks were asked for since.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(SeqCst)
    }

    /// Answers whatever would change something with `AccessDenied`.
    pub fn refuse_writes(&self) {
        self.state.read_only.store(true, SeqCst);
    }
}

impl State {
    /// Passes one connection on. Requests to read have no body, so that each arrives as one piece.
    fn serve(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(&self.server) else { return };
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let piece = String::from_utf8_lossy(&buffer[..length]);
            let line = piece.lines().next().unwrap_or_default();
            if line.starts_with("GET ") && line.contains("/blocks/") {
                let number = self.asked.fetch_add(1, SeqCst);
                if number >= self.allowed.load(SeqCst) {
                    // The client waits until it is stopped.
                    while matches!(client.read(&mut buffer), Ok(1..)) {}
                    break;
                }
            }
            let writes = ["PUT ", "POST ", "DELETE "].iter().any(|method| line.starts_with(method));
            if writes && self.read_only.load(SeqCst) {
                let body = "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
                let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\nconnection: close";
                let _ = write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                break;
            }
            if server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }
}
