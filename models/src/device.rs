//! The device that a model computes on, chosen by name, and the precision that pays there.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use crate::ModelError;

/// The type that a network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the device computes in it natively (a GPU, or a CPU with AMX or AVX512-bf16), else f32. Elsewhere a
    /// CPU would take 70 times longer in bf16.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits with the range of f32. Refused where the device does not compute in it natively.
    Bf16,
}

/// A device with the type that networks compute in on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeDevice {
    /// libtorch's name of it.
    pub device: Device,
    /// Type of a network's parameters on it.
    pub kind: Kind,
}

impl ComputeDevice {
    /// The CPU in 32 bits, which every machine has.
    pub const CPU_F32: Self = Self { device: Device::Cpu, kind: Kind::Float };

    /// Chooses by name: `cpu`, `cuda`, `cuda:1`.
    ///
    /// # Errors
    /// [`ModelError::Device`] if there is none of that name, or it lacks the precision.
    ///
    /// ```
    /// use squall_models::device::{ComputeDevice, Precision};
    /// let cpu = ComputeDevice::select("cpu", Precision::F32)?;
    /// assert!(cpu.describe().starts_with("cpu ") && cpu.describe().ends_with(" f32"));
    /// assert!(ComputeDevice::select("abacus", Precision::Auto).is_err());
    /// # Ok::<(), squall_models::ModelError>(())
    /// ```
    pub fn select(name: &str, precision: Precision) -> Result<Self, ModelError> {
        let device = match name.split_once(':').unwrap_or((name, "0")) {
            ("cpu", _) => Device::Cpu,
            ("cuda", index) => cuda(name, index)?,
            _ => return Err(ModelError::device(name, "cpu or cuda:N was expected")),
        };
        let native = device.is_cuda() || has_native_bf16();
        let kind = match precision {
            Precision::Auto if native => Kind::BFloat16,
            Precision::Auto | Precision::F32 => Kind::Float,
            Precision::Bf16 if native => Kind::BFloat16,
            Precision::Bf16 => {
                let reason = format!("no native bf16 ({}), in which it would take 70 times longer", cpu_name());
                return Err(ModelError::device(name, reason));
            }
        };
        let chosen = Self { device, kind };
        tracing::info!(device = %chosen.describe(), "networks compute here");
        Ok(chosen)
    }

    /// Device, instruction set and precision in words, such as `cpu avx512 amx bf16`, for a forecast's provenance.
    pub fn describe(&self) -> String {
        let precision = if self.kind == Kind::BFloat16 { "bf16" } else { "f32" };
        match self.device {
            Device::Cuda(index) => format!("cuda:{index} {precision}"),
            _ => format!("cpu {} {precision}", cpu_name()),
        }
    }
}

/// A tensor of the CPU on a device. To a GPU it goes from pinned memory, behind what is queued there and without waiting: else each
/// transfer would wait until the GPU has done all that it was given before.
pub(crate) fn sent(tensor: &Tensor, device: Device) -> Tensor {
    if !device.is_cuda() || tensor.device() != Device::Cpu {
        return tensor.to_device(device);
    }
    pinned(tensor, device).to_device_(device, tensor.kind(), true, false)
}

/// A tensor of the CPU in pinned memory, from which a GPU takes it; itself for any other device, or where there is no such memory.
pub(crate) fn pinned(tensor: &Tensor, device: Device) -> Tensor {
    if !device.is_cuda() {
        return tensor.shallow_clone();
    }
    // Without it a transfer is slower, and that is all.
    tensor.f_pin_memory(device).unwrap_or_else(|_| tensor.shallow_clone())
}

/// A CUDA device, after its library has been loaded: nothing links to it, so it must be opened by hand.
fn cuda(name: &str, index: &str) -> Result<Device, ModelError> {
    static LOADED: OnceLock<Result<(), libloading::Error>> = OnceLock::new();
    let refuse = |reason: String| Err(ModelError::device(name, reason));
    let Ok(index) = index.parse::<usize>() else { return refuse("cuda:N was expected".to_owned()) };
    if let Err(error) = LOADED.get_or_init(load_cuda) {
        return refuse(format!("libtorch_cuda.so cannot be loaded, is this libtorch made for CUDA? {error}"));
    }
    let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    if index as i64 >= count {
        return refuse(format!("{count} CUDA devices are there"));
    }
    Ok(Device::Cuda(index))
}

fn load_cuda() -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
    // SAFETY: libtorch's own library, whose initialisers register its kernels; it stays loaded to the end.
    std::mem::forget(unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_LAZY | RTLD_GLOBAL) }?);
    Ok(())
}

/// What the CPU can do, as far as networks care.
fn cpu_flags() -> &'static [String] {
    static FLAGS: OnceLock<Vec<String>> = OnceLock::new();
    FLAGS.get_or_init(|| {
        // Where this file or its line is missing, as on other architectures, nothing is known to be there.
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    })
}

fn has_flag(flag: &str) -> bool {
    cpu_flags().iter().any(|f| f == flag)
}

/// Whether the CPU multiplies matrices in bf16 natively.
pub fn has_native_bf16() -> bool {
    has_flag("amx_bf16") || has_flag("avx512_bf16")
}

fn cpu_name() -> String {
    let known = [("avx512f", "avx512"), ("avx512_bf16", "bf16-dot"), ("amx_bf16", "amx")];
    let mut names: Vec<&str> = known.iter().filter(|(flag, _)| has_flag(flag)).map(|(_, name)| *name).collect();
    if names.is_empty() {
        names.push(if has_flag("avx2") { "avx2" } else { std::env::consts::ARCH });
    }
    names.join("+")
}
