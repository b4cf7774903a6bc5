//! Decoding in a process of its own, so that a hostile file costs a record and not the stream.
//!
//! HDF5 is a large C library that trusts the file it reads: a few damaged bytes in an attribute make
//! version 1.10 read beyond its memory. No check in front of it can exclude that. So bytes from a log are
//! handed to a helper process, which is this program started again; if it dies or does not answer in time, the
//! record is bad, and the next record gets a new helper. Helpers do not share the library's process-wide
//! lock, so two decode twice as fast as one.
//!
//! A program that uses [`IsolatedDecoder`] calls [`run_if_helper`] first thing in `main`.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};
use squall_fields::{Cause, Chain, Frame, Grid, InputRef, ValidTime, Variable};
use squall_operators::ports::{DecodeError, FrameDecoder};

use crate::netcdf::NetcdfDecoder;
use crate::odim::OdimDecoder;
use crate::options::ReadOptions;

/// Set in the environment of a helper process.
pub const HELPER_VARIABLE: &str = "SQUALL_DECODE_HELPER";
/// What a helper says first; whatever a wrapper prints before it is passed over.
const GREETING: &[u8; 16] = b"squall-decoder/1";
/// How long a helper may take for one payload.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// Memory that a helper may allocate, in bytes. The largest field that is taken needs half of it.
const MAX_DATA: u64 = 4 << 30;

/// The formats that a helper decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// CF-NetCDF.
    Netcdf,
    /// ODIM_H5.
    Odim,
}

impl Format {
    fn decoder(self, options: ReadOptions) -> Box<dyn FrameDecoder> {
        match self {
            Self::Netcdf => Box::new(NetcdfDecoder::new(options)),
            Self::Odim => Box::new(OdimDecoder::new(options)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    format: Format,
    options: ReadOptions,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Frames(Vec<Header>),
    Bad(Refusal),
}

/// A [`DecodeError`] without its cause, of which the text alone goes through a pipe.
#[derive(Serialize, Deserialize)]
enum Refusal {
    Malformed(String),
    TooLarge(String),
    WrongVariables(String),
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        let text = Chain(&error).to_string();
        match error {
            DecodeError::TooLarge(_) => Self::TooLarge(text),
            DecodeError::WrongVariables(_) => Self::WrongVariables(text),
            _ => Self::Malformed(text),
        }
    }
}

impl From<Refusal> for DecodeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(text) => Self::new(text),
            Refusal::TooLarge(text) => Self::TooLarge(Cause::new(text)),
            Refusal::WrongVariables(text) => Self::WrongVariables(Cause::new(text)),
        }
    }
}

/// A frame without its dense values, which follow as f32.
#[derive(Serialize, Deserialize)]
struct Header {
    grid: Grid,
    slot: ValidTime,
    variables: Vec<Variable>,
    shape: (usize, usize, usize),
    quality: bool,
}

/// A decoder whose work is done by helper processes.
pub struct IsolatedDecoder {
    format: Format,
    options: ReadOptions,
    content_types: &'static [&'static str],
    start: Box<dyn Fn() -> io::Result<Command> + Send + Sync>,
    patience: Duration,
    idle: Mutex<Vec<Helper>>,
}

impl IsolatedDecoder {
    /// A decoder of a format; helpers are started when they are needed, by starting this program again.
    pub fn new(format: Format, options: ReadOptions) -> Self {
        Self::with_command(format, options, || std::env::current_exe().map(Command::new))
    }

    /// As [`IsolatedDecoder::new`], with helpers started by another command.
    pub fn with_command(
        format: Format,
        options: ReadOptions,
        start: impl Fn() -> io::Result<Command> + Send + Sync + 'static,
    ) -> Self {
        let content_types: &'static [&'static str] = match format {
            Format::Netcdf => &crate::netcdf::codec::CONTENT_TYPES,
            Format::Odim => &crate::odim::codec::CONTENT_TYPES,
        };
        let (start, idle) = (Box::new(start), Mutex::new(Vec::new()));
        Self { format, options, content_types, start, patience: DEFAULT_PATIENCE, idle }
    }

    /// How long a helper may take for one payload before it is ended.
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Helper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_helper(&self) -> io::Result<Helper> {
        let mut command = (self.start)()?;
        command.env(HELPER_VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| io::Error::other("the helper has no pipes"))?;
        without_waiting(stdin.as_raw_fd())?;
        let mut helper = Helper { child, stdin, stdout };
        helper.greet(Instant::now() + self.patience)?;
        Ok(helper)
    }
}

impl FrameDecoder for IsolatedDecoder {
    fn content_types(&self) -> &[&'static str] {
        self.content_types
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError> {
        if payload.len() > self.options.limits.max_bytes {
            let limit = self.options.limits.max_bytes;
            let reason = format!("{} bytes, at most {limit} are allowed", payload.len());
            return Err(DecodeError::TooLarge(Cause::new(reason)));
        }
        let waiting = self.idle().pop();
        let helper = match waiting {
            Some(helper) => Ok(helper),
            None => self.start_helper(),
        };
        let mut helper = match helper {
            Ok(helper) => helper,
            Err(error) => {
                // Not the record's fault: better to decode it here than to lose it.
                tracing::warn!(%error, "no helper process to decode in; decoding in this process");
                return self.format.decoder(self.options.clone()).decode(payload, input);
            }
        };
        let request = Request { format: self.format, options: self.options.clone() };
        match helper.ask(&request, payload, Instant::now() + self.patience) {
            Ok(answer) => {
                self.idle().push(helper);
                answer.map(|frames| frames.into_iter().map(|f| f.into_frame(input)).collect())
            }
            Err(error) => Err(DecodeError::Broke { fate: helper.end(), cause: Cause::new(error) }),
        }
    }
}

/// A running helper process.
struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// What an answer holds: frames without their input.
struct Decoded {
    header: Header,
    values: Array3<f32>,
    quality: Option<Array2<f32>>,
}

impl Decoded {
    fn into_frame(self, input: &InputRef) -> Frame {
        let Self { header, values, quality } = self;
        let (grid, variables) = (Arc::new(header.grid), header.variables.into());
        Frame { grid, slot: header.slot, variables, values, quality, input: input.clone() }
    }
}

impl Helper {
    /// Waits for the greeting.
    fn greet(&mut self, until: Instant) -> io::Result<()> {
        let mut seen = Vec::new();
        while !seen.ends_with(GREETING) {
            let mut byte = [0];
            self.read_exact(&mut byte, until)?;
            seen.push(byte[0]);
            if seen.len() > 1 << 16 {
                return Err(io::Error::other("the helper does not greet"));
            }
        }
        Ok(())
    }

    fn ask(
        &mut self,
        request: &Request,
        payload: &[u8],
        until: Instant,
    ) -> io::Result<Result<Vec<Decoded>, DecodeError>> {
        for block in [&serde_json::to_vec(request)?, payload] {
            self.write_all(&(block.len() as u64).to_le_bytes(), until)?;
            self.write_all(block, until)?;
        }
        let mut length = [0; 8];
        self.read_exact(&mut length, until)?;
        let mut json = vec![0; bounded(u64::from_le_bytes(length), 1 << 26)?];
        self.read_exact(&mut json, until)?;
        match serde_json::from_slice(&json)? {
            Answer::Bad(refusal) => Ok(Err(refusal.into())),
            Answer::Frames(headers) => {
                headers.into_iter().map(|h| self.frame(h, request, until)).collect::<io::Result<_>>().map(Ok)
            }
        }
    }

    fn frame(&mut self, header: Header, request: &Request, until: Instant) -> io::Result<Decoded> {
        let (planes, rows, columns) = header.shape;
        let cells = rows.checked_mul(columns).filter(|n| *n <= request.options.limits.max_cells && planes <= 64);
        let cells = cells.ok_or_else(|| io::Error::other("the helper's answer is too large"))?;
        let values = self.read_f32(planes * cells, until)?;
        let quality = if header.quality { Some(self.read_f32(cells, until)?) } else { None };
        let values = Array3::from_shape_vec(header.shape, values).map_err(io::Error::other)?;
        let quality =
            quality.map(|q| Array2::from_shape_vec((rows, columns), q)).transpose().map_err(io::Error::other)?;
        Ok(Decoded { header, values, quality })
    }

    fn read_f32(&mut self, count: usize, until: Instant) -> io::Result<Vec<f32>> {
        let mut values = vec![0f32; count];
        self.read_exact(bytemuck::cast_slice_mut(&mut values), until)?;
        Ok(values)
    }

    /// Reads from the pipe, and gives up at an instant.
    fn read_exact(&mut self, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            wait_for(self.stdout.as_raw_fd(), libc::POLLIN, until)?;
            match self.stdout.read(buffer)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended")),
                n => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }

    /// Writes into the pipe, and gives up at an instant: a helper that hangs reads nothing.
    fn write_all(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            wait_for(self.stdin.as_raw_fd(), libc::POLLOUT, until)?;
            match self.stdin.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the process and says how it ended.
    fn end(&mut self) -> String {
        // One that has crashed is left to be waited for, so that its signal can be told.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

/// Waits until a pipe can be read or written, or is closed at the other end.
fn wait_for(fd: i32, events: libc::c_short, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis().min(i32::MAX as u128) as i32;
        let mut waiting = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd that lives on this stack.
        match unsafe { libc::poll(&raw mut waiting, 1, left) } {
            0 => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            n if n > 0 => return Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Makes writes to a pipe return what fits instead of waiting.
fn without_waiting(fd: i32) -> io::Result<()> {
    // SAFETY: flags of a descriptor that the caller owns; no memory is passed.
    let set = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    if set { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bounded(length: u64, limit: u64) -> io::Result<usize> {
    if length <= limit { Ok(length as usize) } else { Err(io::Error::other("a block of the helper is too large")) }
}

fn write_block(out: &mut impl Write, block: &[u8]) -> io::Result<()> {
    out.write_all(&(block.len() as u64).to_le_bytes())?;
    out.write_all(block)
}

/// In a helper process: decodes until the pipe is closed, then ends the process. In any other process:
/// returns at once. Call it first thing in `main`, before anything is printed or started.
pub fn run_if_helper() {
    if std::env::var_os(HELPER_VARIABLE).is_some() {
        limit_resources();
        let ended = serve(&mut io::stdin().lock(), &mut io::stdout().lock());
        std::process::exit(i32::from(ended.is_err()));
    }
}

/// Bounds memory, so that a small file that unpacks to a large one ends the helper and not the machine.
fn limit_resources() {
    for (what, limit) in [(libc::RLIMIT_DATA, MAX_DATA), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: a valid struct that lives on this stack. If the system refuses, the limit is as it was.
        unsafe { libc::setrlimit(what, &raw const limit) };
    }
}

/// Why an array in standard layout is a slice.
const STANDARD: &str = "standard layout is contiguous";

fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    output.write_all(GREETING)?;
    output.flush()?;
    let origin = InputRef { topic: Arc::from(""), partition: 0, offset: 0, digest: Arc::from("") };
    while let Some(request) = read_block(input)? {
        let request: Request = serde_json::from_slice(&request)?;
        let payload = Bytes::from(read_block(input)?.ok_or(io::ErrorKind::UnexpectedEof)?);
        let frames = request.format.decoder(request.options).decode(&payload, &origin);
        answer(output, frames)?;
        output.flush()?;
    }
    Ok(())
}

fn answer(output: &mut impl Write, frames: Result<Vec<Frame>, DecodeError>) -> io::Result<()> {
    let frames = match frames {
        Ok(frames) => frames,
        Err(error) => return write_block(output, &serde_json::to_vec(&Answer::Bad(error.into()))?),
    };
    let header = |frame: &Frame| Header {
        grid: (*frame.grid).clone(),
        slot: frame.slot,
        variables: frame.variables.to_vec(),
        shape: frame.values.dim(),
        quality: frame.quality.is_some(),
    };
    write_block(output, &serde_json::to_vec(&Answer::Frames(frames.iter().map(header).collect()))?)?;
    for frame in &frames {
        // Whatever the order in memory, the other side reads `[variable, y, x]`.
        output.write_all(bytemuck::cast_slice(frame.values.as_standard_layout().as_slice().expect(STANDARD)))?;
        if let Some(quality) = &frame.quality {
            output.write_all(bytemuck::cast_slice(quality.as_standard_layout().as_slice().expect(STANDARD)))?;
        }
    }
    Ok(())
}

fn read_block(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut block = vec![0; bounded(u64::from_le_bytes(length), 1 << 32)?];
    input.read_exact(&mut block)?;
    Ok(Some(block))
}

#[cfg(test)]
mod tests;
