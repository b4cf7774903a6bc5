//! Asks a broker whether it serves.
//!
//! An open port does not mean that a broker serves, and one that answers may still be fenced by its controller and
//! refuse to create topics. Its own metadata lists it only when it is ready, so this sends one metadata request, the few
//! bytes of Kafka's protocol that need no client library (whose reconnects would fill the log).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const TIME_OUT: Duration = Duration::from_secs(2);

/// A metadata request, version 4, for no topics: length, api key 3, version 4, correlation id 1, no client id, no topics,
/// no automatic creation.
const REQUEST: [u8; 19] = [0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0];

/// Whether the broker at this port of the loopback address counts itself among the live ones.
pub(super) fn answers(port: u16) -> bool {
    live_brokers(port).is_ok_and(|count| count > 0)
}

fn live_brokers(port: u16) -> io::Result<i32> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIME_OUT)?;
    stream.set_read_timeout(Some(TIME_OUT))?;
    stream.write_all(&REQUEST)?;
    // Length, correlation id, throttle time, and the number of brokers.
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    Ok(i32::from_be_bytes([answer[12], answer[13], answer[14], answer[15]]))
}
