//! The connection that frames travel on, as timely wants it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use timely::communication::allocator::zero_copy::stream::Stream;

/// Zeros that end what timely sends: the header of a message without bytes.
const LAST_HEADER: usize = 48;

/// Says that a connection broke.
pub(crate) type Broken = dyn Fn(String) + Send + Sync;

/// A connection to another process. Timely's threads panic where one breaks; here whoever can end the run in order is told,
/// and the thread that found out waits for the end.
pub(crate) struct Link {
    stream: TcpStream,
    broken: Arc<Broken>,
    /// Zeros that were read last.
    zeros: usize,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, broken: Arc<Broken>) -> Self {
        Self { stream, broken, zeros: 0 }
    }

    fn give_up(&self, why: String) -> ! {
        (self.broken)(why);
        loop {
            std::thread::park();
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) if self.zeros < LAST_HEADER => self.give_up("closed its connection".into()),
            Ok(read) => {
                let zeros = buffer[..read].iter().rev().take(LAST_HEADER).take_while(|byte| **byte == 0).count();
                self.zeros = if zeros == read { self.zeros + read } else { zeros };
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => self.give_up(format!("cannot be heard: {error}")),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.stream.write(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.give_up(format!("cannot be reached: {error}"))
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.stream.try_clone()?, self.broken.clone()))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // A peer that is gone already has nothing to be told.
        let _ = self.stream.shutdown(how);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::time::Duration;

    fn pair(broken: Arc<Broken>) -> (TcpStream, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (there, Link::new(listener.accept().unwrap().0, broken))
    }

    #[test]
    fn the_end_of_what_was_sent_is_told_from_a_connection_that_broke() {
        let (told, tells) = mpsc::channel();
        let broken: Arc<Broken> = Arc::new(move |why| told.send(why).unwrap());
        let (mut there, mut link) = pair(broken.clone());
        there.write_all(b"frame").unwrap();
        there.write_all(&[0; LAST_HEADER]).unwrap();
        drop(there);
        let mut all = Vec::new();
        link.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 5 + LAST_HEADER);
        assert!(tells.try_recv().is_err());

        let (mut there, mut link) = pair(broken);
        there.write_all(b"half a frame").unwrap();
        drop(there);
        std::thread::spawn(move || drop(link.read_to_end(&mut Vec::new())));
        assert_eq!(tells.recv_timeout(Duration::from_secs(20)).unwrap(), "closed its connection");
    }
}
