//! Reference numbers, their shapes checked before they are used.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

/// Channels of a frame that networks of both sizes take.
pub(crate) const CHANNELS: i64 = 3;

/// Tensors that only serve to compute others.
const INPUTS: [&str; 14] = [
    "op.x",
    "op.t",
    "unet.x_t",
    "unet.t",
    "unet.cond",
    "loss.x_start",
    "loss.noise",
    "loss.t",
    "loss.cond",
    "ddim.x_T_iid",
    "ddim.cond",
    "y_T",
    "cond",
    "vae.x",
];

/// One quantity compared.
pub(crate) struct Outcome {
    /// Its name in the fixture.
    pub(crate) name: String,
    /// Largest absolute difference over largest absolute reference; infinite if it could not be compared.
    pub(crate) difference: f64,
    /// Most that is allowed.
    pub(crate) tolerance: f64,
    /// Why it could not be compared.
    pub(crate) problem: Option<String>,
}

impl Outcome {
    /// Whether it is within its tolerance.
    pub(crate) fn ok(&self) -> bool {
        self.difference <= self.tolerance
    }
}

/// A file of reference numbers.
pub(crate) struct Fixture {
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads a file of named tensors.
    pub(crate) fn load(path: &str) -> Result<Self, String> {
        let tensors = Tensor::read_safetensors(path).map_err(|e| format!("{path}: {e}"))?;
        let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let quantities = tensors.keys().filter(|name| !INPUTS.contains(&name.as_str())).count();
        if quantities == 0 {
            let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
            return Err(format!("{path}: holds nothing to compare with, only: {}", names.join(", ")));
        }
        Ok(Self { tensors })
    }

    /// Starts to compare.
    pub(crate) fn comparison(&self) -> Comparison<'_> {
        Comparison { tensors: &self.tensors, outcomes: BTreeMap::new(), problems: Vec::new() }
    }
}

/// A fixture, and how its quantities compared so far.
pub(crate) struct Comparison<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    outcomes: BTreeMap<String, Outcome>,
    /// Why what begins with a prefix could not be compared.
    problems: Vec<(&'static str, String)>,
}

impl<'a> Comparison<'a> {
    /// A tensor of the fixture, if it holds it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Tensor> {
        self.tensors.get(name)
    }

    /// Names of all that the fixture holds.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether the fixture holds a quantity whose name begins so.
    pub(crate) fn wants(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix) && !INPUTS.contains(&name))
    }

    /// Compares what begins with a prefix, if the fixture holds such quantities; keeps the reason if that fails.
    pub(crate) fn group(&mut self, prefix: &'static str, run: impl FnOnce(&mut Self) -> Result<(), String>) {
        if self.wants(prefix) {
            let result = run(self);
            self.failed(&[prefix], result);
        }
    }

    /// Keeps the reason why what begins with these prefixes could not be compared.
    pub(crate) fn failed(&mut self, prefixes: &[&'static str], result: Result<(), String>) {
        if let Err(reason) = result {
            self.problems.extend(prefixes.iter().map(|prefix| (*prefix, reason.clone())));
        }
    }

    /// Compares one quantity, if the fixture holds it.
    pub(crate) fn compare(&mut self, name: &str, tolerance: f64, value: &Tensor) {
        self.compare_above(name, tolerance, value, f64::MIN_POSITIVE);
    }

    /// As [`Comparison::compare`], taking the largest reference for at least `least`.
    pub(crate) fn compare_above(&mut self, name: &str, tolerance: f64, value: &Tensor, least: f64) {
        let Some(reference) = self.get(name) else { return };
        let (found, expected) = (value.size(), reference.size());
        let scalars = value.numel() == 1 && reference.numel() == 1;
        let (difference, problem) = if found == expected || scalars {
            (relative_difference(value, reference, least), None)
        } else {
            (f64::INFINITY, Some(format!("its shape in the fixture is {expected:?}, computed was {found:?}")))
        };
        let name = name.to_owned();
        self.outcomes.insert(name.clone(), Outcome { name, difference, tolerance, problem });
    }

    /// Keeps the reason why one quantity could not be compared.
    pub(crate) fn cannot(&mut self, name: &str, reason: &str) {
        let (name, problem) = (name.to_owned(), Some(reason.to_owned()));
        self.outcomes.insert(name.clone(), Outcome { name, difference: f64::INFINITY, tolerance: 0.0, problem });
    }

    /// How every quantity of the fixture compared, in order of names.
    pub(crate) fn outcomes(mut self) -> Vec<Outcome> {
        for name in self.names().filter(|name| !INPUTS.contains(name)) {
            if !self.outcomes.contains_key(name) {
                let known = self.problems.iter().find(|(prefix, _)| name.starts_with(prefix));
                let reason = known.map_or("is no quantity that is known".to_owned(), |(_, reason)| reason.clone());
                self.cannot(name, &reason);
            }
        }
        self.outcomes.into_values().collect()
    }

    /// An input.
    pub(crate) fn input(&self, name: &str) -> Result<&'a Tensor, String> {
        self.get(name).ok_or_else(|| format!("{name} is needed, which the fixture lacks"))
    }

    /// `[sample, frame * 3, y, x]` as `[sample, frame, 3, y, x]`, rows and columns being multiples of `stride`.
    pub(crate) fn clip(&self, name: &str, stride: i64) -> Result<Tensor, String> {
        let tensor = self.input(name)?;
        let size = tensor.size();
        match size.as_slice() {
            [samples, channels, height, width]
                if *channels > 0
                    && channels % CHANNELS == 0
                    && *samples > 0
                    && [height, width].iter().all(|n| **n > 0 && **n % stride == 0) =>
            {
                let x = tensor.to_kind(Kind::Float);
                Ok(x.reshape([*samples, channels / CHANNELS, CHANNELS, *height, *width]))
            }
            _ => Err(format!(
                "{name} has the shape {size:?}; [sample, frames * {CHANNELS}, y, x] was expected, rows and columns being \
                 multiples of {stride}"
            )),
        }
    }

    /// As [`Comparison::clip`], of the shape of another clip.
    pub(crate) fn clip_like(&self, name: &str, other: &Tensor) -> Result<Tensor, String> {
        let clip = self.clip(name, 1)?;
        let (found, expected) = (clip.size(), other.size());
        if found == expected {
            return Ok(clip);
        }
        Err(format!("{name} as [sample, frame, channel, y, x] is {found:?}, {expected:?} was expected"))
    }

    /// The diffusion index of each sample of a clip.
    pub(crate) fn steps(&self, name: &str, clip: &Tensor) -> Result<Vec<usize>, String> {
        let (steps, samples) = (self.input(name)?, clip.size()[0]);
        if steps.numel() as i64 != samples {
            return Err(format!("{name} has {} values for {samples} samples", steps.numel()));
        }
        let steps = steps.reshape([-1]);
        (0..samples)
            .map(|i| {
                let step = steps.int64_value(&[i]);
                let valid = usize::try_from(step).ok().filter(|k| *k < 1000);
                valid.ok_or_else(|| format!("{name} holds {step}; 0 to 999 was expected"))
            })
            .collect()
    }

    /// The clean history `[sample, frame, 3, y, x]` that goes with a clip: the first of these that there is.
    pub(crate) fn history(&self, names: &[&str], clip: &Tensor) -> Result<Tensor, String> {
        let name = names.iter().find(|name| self.get(name).is_some());
        let name = name.ok_or_else(|| format!("{} is needed, which the fixture lacks", names.join(" or ")))?;
        let history = self.clip(name, 1)?;
        let (found, clip) = (history.size(), clip.size());
        if found[0] == clip[0] && found[1] <= clip[1] && found[3..] == clip[3..] {
            return Ok(history);
        }
        Err(format!("{name} as [sample, frame, channel, y, x] is {found:?}, which is no history of a clip {clip:?}"))
    }
}

fn relative_difference(value: &Tensor, reference: &Tensor, least: f64) -> f64 {
    if reference.numel() == 0 {
        return 0.0;
    }
    let (value, reference) = (value.to_kind(Kind::Double), reference.to_kind(Kind::Double));
    let value = value.reshape_as(&reference);
    let most = reference.abs().max().double_value(&[]);
    let difference = (value - reference).abs().max().double_value(&[]);
    // NaN in either is no agreement.
    if difference.is_nan() || most.is_nan() { f64::INFINITY } else { difference / most.max(least) }
}
