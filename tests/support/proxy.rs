//! A proxy between a client and a server on this machine; it cuts, stalls or refuses connections on demand.

#![allow(dead_code)] // each test binary uses a part of it

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a stalled connection looks whether it may go on.
const GLANCE: Duration = Duration::from_millis(10);

/// Stands between a client and a server; cuts, stalls or refuses connections on demand.
pub struct Proxy {
    port: u16,
    state: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    stalled: AtomicBool,
    refusing: AtomicBool,
    ended: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("the address").port();
        let state = Arc::new(Wire::default());
        let wire = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if wire.ended.load(Ordering::SeqCst) {
                    return;
                }
                if wire.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    wire.join(&client, &server);
                }
            }
        });
        Proxy { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection now; new ones are let through.
    pub fn cut(&self) {
        for socket in self.state.sockets.lock().expect("the sockets").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// From now on, or no longer, new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Nothing goes through in either direction, and nothing is closed, until [`Proxy::resume`].
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.state.stalled.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener, which ends
    }
}

impl Wire {
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let mut sockets = self.sockets.lock().expect("the sockets");
        for (from, to) in [(client, server), (server, client)] {
            let _ = from.set_nodelay(true);
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone())
            else {
                return;
            };
            sockets.push(kept);
            let wire = Arc::clone(self);
            thread::spawn(move || wire.carry(from, to));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            while self.stalled.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
                thread::sleep(GLANCE);
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
