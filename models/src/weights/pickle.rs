//! Reads the tensors of a PyTorch checkpoint: a zip archive of a pickle and raw storages.
//!
//! The pickle is read by a machine that knows containers, numbers, texts and the rebuilding of tensors. Whatever else
//! a checkpoint holds becomes an opaque value; no name in it is ever looked up or called.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::{Kind, Tensor};

use PickleError::{Damaged, EndsEarly};

/// Why a file gives no tensors.
#[derive(Debug, thiserror::Error)]
pub(super) enum PickleError {
    #[error("is no zip archive as torch.save writes it")]
    NoZip,
    #[error("is in the format of PyTorch before 1.6; load it with PyTorch and save it again")]
    Legacy,
    #[error("its zip directory is damaged or larger than 4 GB")]
    Directory,
    #[error("{0} is compressed, which PyTorch never does")]
    Compressed(String),
    #[error("has no data.pkl; is it a PyTorch checkpoint?")]
    NoPickle,
    #[error("its pickle ends early")]
    EndsEarly,
    #[error("its pickle is damaged")]
    Damaged,
    #[error("its pickle uses the unknown instruction {0:#x}")]
    Instruction(u8),
    #[error("holds no dictionary of tensors")]
    NoDictionary,
    #[error("holds no tensors by name, only: {}", .0.join(", "))]
    NoTensors(Vec<String>),
    #[error("{name}: storage {storage} is missing")]
    NoStorage { name: String, storage: String },
    #[error("{name}: its shape {shape:?} does not fit its storage of {count} values")]
    Shape { name: String, shape: Vec<i64>, count: i64 },
}

/// The tensors of a checkpoint by name.
pub(super) fn state_dict(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, PickleError> {
    let files = zip_entries(bytes)?;
    let (pickle_name, pickle) =
        files.iter().find(|(name, _)| name.ends_with("data.pkl")).ok_or(PickleError::NoPickle)?;
    let folder = pickle_name.trim_end_matches("data.pkl");
    let root = Machine::new(pickle).run()?;
    let Value::Dict(entries) = &root else { return Err(PickleError::NoDictionary) };
    let inner = entries.borrow().iter().find_map(|(key, value)| match (key, value) {
        (Value::Text(key), Value::Dict(inner)) if key == "state_dict" => Some(inner.clone()),
        _ => None,
    });
    let entries = inner.unwrap_or_else(|| entries.clone());
    let mut tensors = BTreeMap::new();
    for (key, value) in entries.borrow().iter() {
        if let (Value::Text(name), Value::Tensor(tensor)) = (key, value) {
            let storage = format!("{folder}data/{}", tensor.storage.key);
            let name = name.clone();
            let Some(data) = files.get(&storage) else { return Err(PickleError::NoStorage { name, storage }) };
            let value = match tensor.read(data) {
                Ok(value) => value,
                Err(count) => return Err(PickleError::Shape { name, shape: tensor.size.clone(), count }),
            };
            tensors.insert(name, value);
        }
    }
    if tensors.is_empty() {
        let name = |(key, _): &(Value, Value)| if let Value::Text(key) = key { Some(key.clone()) } else { None };
        return Err(PickleError::NoTensors(entries.borrow().iter().filter_map(name).collect()));
    }
    Ok(tensors)
}

/// Files of a zip archive that are stored as they are, as PyTorch writes them.
fn zip_entries(bytes: &[u8]) -> Result<HashMap<String, &[u8]>, PickleError> {
    // The magic number that PyTorch before 1.6 pickled first.
    if bytes.get(2..).is_some_and(|rest| rest.starts_with(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")) {
        return Err(PickleError::Legacy);
    }
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let last = bytes.len().checked_sub(22).ok_or(PickleError::NoZip)?;
    let end = (last.saturating_sub(65_536)..=last).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or(PickleError::NoZip)?;
    let (count, mut at) = (u16_at(end + 10).ok_or(PickleError::NoZip)?, u32_at(end + 16).ok_or(PickleError::NoZip)?);
    let mut files = HashMap::new();
    for _ in 0..count {
        if u32_at(at) != Some(0x0201_4b50) {
            return Err(PickleError::Directory);
        }
        let (method, size, lengths, local) =
            (u16_at(at + 10), u32_at(at + 20), [u16_at(at + 28), u16_at(at + 30), u16_at(at + 32)], u32_at(at + 42));
        let [Some(name_length), Some(extra), Some(comment)] = lengths else { return Err(PickleError::Directory) };
        let (Some(size), Some(local)) = (size, local) else { return Err(PickleError::Directory) };
        let name = bytes.get(at + 46..at + 46 + name_length).ok_or(PickleError::Directory)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if method != Some(0) {
            return Err(PickleError::Compressed(name));
        }
        let start = local
            + 30
            + u16_at(local + 26).ok_or(PickleError::Directory)?
            + u16_at(local + 28).ok_or(PickleError::Directory)?;
        files.insert(name, bytes.get(start..start + size).ok_or(PickleError::Directory)?);
        at += 46 + name_length + extra + comment;
    }
    Ok(files)
}

#[derive(Clone, Debug)]
struct Storage {
    kind: Kind,
    key: String,
}

#[derive(Clone, Debug)]
struct TensorRef {
    storage: Storage,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

impl TensorRef {
    /// From the bytes of its storage; the number of values in them, if its shape asks for others.
    fn read(&self, data: &[u8]) -> Result<Tensor, i64> {
        let width = self.storage.kind.elt_size_in_bytes();
        let count = (data.len() / width) as i64;
        let steps = self.size.iter().zip(&self.stride).map(|(n, s)| n.saturating_sub(1).max(0).saturating_mul(*s));
        let reach = steps.fold(0, i64::saturating_add);
        // Of a tensor that repeats its values, no more than anyone has a use for.
        let values = self.size.iter().fold(1, |all: i64, n| all.saturating_mul((*n).max(1)));
        let sane = self.size.len() == self.stride.len() && self.size.iter().chain(&self.stride).all(|n| *n >= 0);
        let empty = self.size.contains(&0);
        if !sane
            || values > count.max(1 << 24)
            || !empty && (self.offset < 0 || self.offset.saturating_add(reach) >= count)
        {
            return Err(count);
        }
        if empty {
            return Ok(Tensor::zeros(&self.size, (self.storage.kind, tch::Device::Cpu)));
        }
        let flat = Tensor::from_data_size(&data[..count as usize * width], &[count], self.storage.kind);
        Ok(flat.as_strided(&self.size, &self.stride, self.offset).contiguous())
    }
}

type Shared<T> = Rc<RefCell<T>>;

#[derive(Clone, Debug)]
enum Value {
    Mark,
    Int(i64),
    Text(String),
    Tuple(Vec<Value>),
    List(Shared<Vec<Value>>),
    Dict(Shared<Vec<(Value, Value)>>),
    Global(String),
    Storage(Storage),
    Tensor(TensorRef),
    /// Anything that does not matter.
    Opaque,
}

struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

impl<'a> Machine<'a> {
    fn new(code: &'a [u8]) -> Self {
        Self { code, at: 0, stack: Vec::new(), memo: HashMap::new() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).ok_or(Damaged)?;
        let part = self.code.get(self.at..end).ok_or(EndsEarly)?;
        self.at = end;
        Ok(part)
    }

    /// A little-endian unsigned number of so many bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, PickleError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn text(&mut self, length: usize) -> Result<Value, PickleError> {
        Ok(Value::Text(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let length = self.code[self.at..].iter().position(|b| *b == b'\n').ok_or(EndsEarly)?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        self.stack.pop().ok_or(Damaged)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark)).ok_or(Damaged)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn pop_tuple(&mut self, count: usize) -> Result<Value, PickleError> {
        let start = self.stack.len().checked_sub(count).ok_or(Damaged)?;
        Ok(Value::Tuple(self.stack.split_off(start)))
    }

    fn add(&mut self, items: Vec<Value>) {
        match self.stack.last() {
            Some(Value::List(list)) => list.borrow_mut().extend(items),
            Some(Value::Dict(dict)) => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.borrow_mut().push((key, value));
                }
            }
            _ => {}
        }
    }

    fn remember(&mut self, index: usize) {
        if let Some(top) = self.stack.last() {
            self.memo.insert(index as u32, top.clone());
        }
    }

    fn run(mut self) -> Result<Value, PickleError> {
        loop {
            let code = self.number(1)? as u8;
            let value = match code {
                b'.' => return self.pop(),
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => Some(Value::Mark),
                b'}' => Some(Value::Dict(Shared::default())),
                b']' => Some(Value::List(Shared::default())),
                b')' => Some(Value::Tuple(Vec::new())),
                b'N' | 0x88 | 0x89 | 0x8f => Some(Value::Opaque),
                b'2' => self.stack.last().cloned(),
                b'1' | 0x91 => {
                    self.pop_to_mark()?;
                    (code == 0x91).then_some(Value::Opaque)
                }
                b'G' => {
                    self.take(8)?;
                    Some(Value::Opaque)
                }
                b'J' => Some(Value::Int(i64::from(self.number(4)? as u32 as i32))),
                b'K' => Some(Value::Int(self.number(1)? as i64)),
                b'M' => Some(Value::Int(self.number(2)? as i64)),
                0x8a => Some(self.long()?),
                b'X' | b'T' => {
                    let length = self.number(4)?;
                    Some(self.text(length)?)
                }
                0x8c | b'U' => {
                    let length = self.number(1)?;
                    Some(self.text(length)?)
                }
                0x8d => {
                    let length = self.number(8)?;
                    Some(self.text(length)?)
                }
                b'B' | b'C' | 0x8b | 0x8e | 0x96 => {
                    let width = match code {
                        b'C' => 1,
                        b'B' | 0x8b => 4,
                        _ => 8,
                    };
                    let length = self.number(width)?;
                    self.take(length)?;
                    Some(Value::Opaque)
                }
                b'c' => Some(Value::Global(format!("{} {}", self.line()?, self.line()?))),
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => Some(Value::Global(format!("{module} {name}"))),
                    _ => Some(Value::Opaque),
                },
                b't' => Some(Value::Tuple(self.pop_to_mark()?)),
                0x85..=0x87 => Some(self.pop_tuple(usize::from(code) - 0x84)?),
                b'Q' => Some(storage(&self.pop()?)),
                b'R' | 0x81 => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    Some(rebuilt(&function, &arguments))
                }
                0x92 => {
                    self.pop_tuple(3)?;
                    Some(Value::Opaque)
                }
                b'b' => {
                    self.pop()?;
                    None
                }
                b's' => {
                    if let Value::Tuple(pair) = self.pop_tuple(2)? {
                        self.add(pair);
                    }
                    None
                }
                b'a' => {
                    let item = self.pop()?;
                    self.add(vec![item]);
                    None
                }
                b'u' | b'e' | 0x90 => {
                    let items = self.pop_to_mark()?;
                    self.add(items);
                    None
                }
                b'q' | b'r' => {
                    let index = self.number(if code == b'q' { 1 } else { 4 })?;
                    self.remember(index);
                    None
                }
                0x94 => {
                    self.remember(self.memo.len());
                    None
                }
                b'h' | b'j' => {
                    let index = self.number(if code == b'h' { 1 } else { 4 })?;
                    Some(self.memo.get(&(index as u32)).cloned().unwrap_or(Value::Opaque))
                }
                b'0' => {
                    self.pop()?;
                    None
                }
                other => return Err(PickleError::Instruction(other)),
            };
            self.stack.extend(value);
        }
    }

    fn skip(&mut self, count: usize) -> Result<Option<Value>, PickleError> {
        self.take(count)?;
        Ok(None)
    }

    fn long(&mut self) -> Result<Value, PickleError> {
        let length = self.number(1)?;
        let bytes = self.take(length)?;
        if length > 8 {
            return Ok(Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let start = if negative { -1i64 } else { 0 };
        Ok(Value::Int(bytes.iter().rev().fold(start, |n, b| n << 8 | i64::from(*b))))
    }
}

/// The storage that a persistent identifier `("storage", type, key, device, count)` names.
fn storage(id: &Value) -> Value {
    let Value::Tuple(parts) = id else { return Value::Opaque };
    let [Value::Text(tag), Value::Global(class), Value::Text(key), ..] = parts.as_slice() else {
        return Value::Opaque;
    };
    let kind = match class.as_str() {
        "torch FloatStorage" => Kind::Float,
        "torch DoubleStorage" => Kind::Double,
        "torch HalfStorage" => Kind::Half,
        "torch BFloat16Storage" => Kind::BFloat16,
        "torch LongStorage" => Kind::Int64,
        "torch IntStorage" => Kind::Int,
        "torch ShortStorage" => Kind::Int16,
        "torch CharStorage" => Kind::Int8,
        "torch ByteStorage" => Kind::Uint8,
        "torch BoolStorage" => Kind::Bool,
        _ => return Value::Opaque,
    };
    if tag == "storage" { Value::Storage(Storage { kind, key: key.clone() }) } else { Value::Opaque }
}

/// What a call means, for the few that matter; nothing is called.
fn rebuilt(function: &Value, arguments: &Value) -> Value {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else { return Value::Opaque };
    match (name.as_str(), arguments.as_slice()) {
        ("collections OrderedDict", []) => Value::Dict(Shared::default()),
        (
            "torch._utils _rebuild_tensor_v2",
            [Value::Storage(storage), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), ..],
        ) => {
            let numbers = |values: &[Value]| {
                values.iter().map(|v| if let Value::Int(n) = v { *n } else { -1 }).collect::<Vec<i64>>()
            };
            let (size, stride) = (numbers(size), numbers(stride));
            Value::Tensor(TensorRef { storage: storage.clone(), offset: *offset, size, stride })
        }
        (
            "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state",
            [Value::Tensor(tensor), ..],
        ) => Value::Tensor(tensor.clone()),
        _ => Value::Opaque,
    }
}
