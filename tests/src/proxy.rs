//! A network between Squall and the broker that can be cut, mended and slowed down.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often a connection looks whether the network is cut.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    cut: AtomicBool,
    /// Bytes a second of each connection and direction; 0 is no limit.
    rate: AtomicU64,
    over: AtomicBool,
}

/// A TCP proxy on the loopback address. While it is cut nothing passes in either direction and connections stay open, as
/// with a broken cable; what was under way arrives once it is mended.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port; leads nowhere yet.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = of_thread.clone();
                thread::spawn(move || connect(client, &shared));
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to a port of the loopback address.
    pub fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::SeqCst);
    }

    /// Cuts the network.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// Lets so many bytes a second pass, in each connection and direction.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener
    }
}

impl Shared {
    /// Waits while the network is cut; whether the proxy still is there.
    fn passes(&self) -> bool {
        while self.cut.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            thread::sleep(LOOK);
        }
        !self.over.load(Ordering::SeqCst)
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    if !shared.passes() {
        return;
    }
    // A broker that is away refuses: so do we, by closing.
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.target.load(Ordering::SeqCst))) else { return };
    let both = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(there), Some((back_to, back_from))) = (both(), both()) else { return };
    let of_thread = shared.clone();
    thread::spawn(move || pass(back_from, back_to, &of_thread));
    pass(there.0, there.1, shared);
}

/// Passes on what comes until one side closes.
fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let _ = from.set_read_timeout(Some(LOOK));
    let _ = to.set_nodelay(true);
    let mut buffer = [0; CHUNK];
    while shared.passes() {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        if !shared.passes() || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        let rate = shared.rate.load(Ordering::SeqCst);
        if rate > 0 {
            thread::sleep(Duration::from_secs_f64(read as f64 / rate as f64));
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
