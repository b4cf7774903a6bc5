//! The layers of a configuration: defaults, file, environment, flags.

use std::io;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::context::Context;
use super::fault::{Fault, Faults};
use super::file::{File, NAMED, from_scalar};
use super::resolved::Config;
use super::{products, resolve};

/// A kind of configuration file.
pub(crate) struct Kind {
    /// The lowest layer, in TOML.
    pub(crate) defaults: &'static str,
    /// What the names of its environment variables begin with.
    pub(crate) prefix: &'static str,
}

/// What streams run from which sources.
pub(super) const STREAMS: Kind = Kind { defaults: include_str!("defaults.toml"), prefix: "SQUALL__" };

/// What was written, layer by layer; later layers win, setting by setting.
///
/// A setting's path is its tables joined by dots, where a source or a stream goes by its name:
/// `streams.rain.leads`. In the environment that is `SQUALL__STREAMS__RAIN__LEADS` (a `-` in a name
/// is written `_`), on the command line `--set streams.rain.leads=6`.
///
/// ```
/// use squall_pipeline::config::Layers;
/// # let text = r#"
/// # [[sources]]
/// # name = "radar"
/// # variables = ["rain_rate"]
/// # cadence = "5 min"
/// # [[streams]]
/// # name = "rain"
/// # source = "radar"
/// # model = { name = "extrapolation" }
/// # thresholds = [1.0]
/// # "#;
/// let layers = Layers::from_text("rain.toml", text)
///     .environment([("SQUALL__STREAMS__RAIN__LEADS".into(), "6".into())])
///     .set("streams.rain.members=3");
/// let config = layers.load()?;
/// assert_eq!((config.streams[0].leads, config.streams[0].members), (6, 3));
/// # Ok::<(), squall_pipeline::config::Faults>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layers {
    name: String,
    file: File,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Layers {
    /// Reads a file as the second layer.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong with its content is reported by [`Layers::load`].
    pub fn from_file(path: &Path) -> io::Result<Self> {
        Ok(Self::from_text(&path.display().to_string(), &std::fs::read_to_string(path)?))
    }

    /// Takes a text as the file; `name` is what faults call it.
    pub fn from_text(name: &str, text: &str) -> Self {
        let file = File::parse(name, text);
        Self { name: name.to_owned(), file, environment: Vec::new(), flags: Vec::new() }
    }

    /// Adds variables of the environment; those that start with `SQUALL__` count.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables.into_iter().filter(|(key, _)| key.starts_with("SQUALL")));
        self
    }

    /// Adds the variables of this process.
    #[must_use]
    pub fn process_environment(self) -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        self.environment(std::env::vars_os().filter_map(text))
    }

    /// Adds a flag `path=value`.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.flags.push(assignment.into());
        self
    }

    /// Lays the layers over each other and resolves them.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub fn load(&self) -> Result<Config, Faults> {
        self.read(&STREAMS, resolve::config)
    }

    /// Whether the file gives a table or setting at its top.
    pub fn gives(&self, key: &str) -> bool {
        self.file.values.contains_key(key)
    }

    /// Lays the layers of a kind of configuration over each other and reads them.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub(crate) fn read<T>(&self, kind: &Kind, read: impl FnOnce(&Context<'_>) -> Option<T>) -> Result<T, Faults> {
        let mut faults = self.file.faults.clone();
        if !self.file.faults.is_empty() && self.file.values.is_empty() {
            return Err(Faults(faults)); // A syntax error: whatever else would be said follows from it.
        }
        let mut figment = Figment::new()
            .merge(self.defaults(kind.defaults))
            .merge(Layer { place: self.name.clone(), values: self.file.values.clone() });
        for (key, value) in &self.environment {
            let Some(path) = key.strip_prefix(kind.prefix).map(|key| self.path_of_variable(key)) else { continue };
            figment = figment.merge(Layer { place: key.clone(), values: nested(&path, given(&path, value)) });
        }
        for flag in &self.flags {
            let Some((path, value)) = flag.split_once('=').filter(|(path, _)| !path.trim().is_empty()) else {
                let message = "expected path=value, such as streams.rain.leads=6".to_owned();
                // What follows the path may be a secret.
                let path = flag.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).next().unwrap_or("");
                faults.push(Fault { place: format!("--set {path}"), setting: String::new(), message });
                continue;
            };
            let path: Vec<String> = match path.trim().strip_prefix("log.properties.") {
                Some(key) => vec!["log".into(), "properties".into(), key.into()],
                None => path.trim().split('.').map(str::to_owned).collect(),
            };
            let place = format!("--set {}", path.join("."));
            figment = figment.merge(Layer { place, values: nested(&path, given(&path, value.trim())) });
        }
        let context = Context::new(&figment, &self.name, &self.file, faults);
        let read = read(&context);
        context.finish(read)
    }

    /// The lowest layer, with a table for each source and stream of the file.
    fn defaults(&self, defaults: &str) -> Layer {
        let mut values = File::parse("built-in defaults", defaults).values;
        for list in NAMED {
            let Some(Value::Dict(_, mut template)) = values.remove(list) else { continue };
            let mut template = template.remove("default").expect("the built-in defaults have one for each named list");
            if let ("streams", Value::Dict(_, stream)) = (list, &mut template) {
                products::add_defaults(stream);
            }
            let names = self.names(list).map(|name| (name.to_owned(), template.clone()));
            values.insert(list.to_owned(), names.collect::<Dict>().into());
        }
        Layer { place: "built-in defaults".into(), values }
    }

    fn names(&self, list: &str) -> impl Iterator<Item = &str> {
        let dict = self.file.values.get(list).and_then(Value::as_dict);
        dict.into_iter().flat_map(|dict| dict.keys().map(String::as_str))
    }

    /// `STREAMS__FMI_RAIN__LEADS` is `streams.fmi-rain.leads` if the file has a stream of that name.
    fn path_of_variable(&self, key: &str) -> Vec<String> {
        let mut path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
        let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '.'], "_");
        if let [list, name, ..] = path.as_mut_slice()
            && let Some(known) = self.names(list).find(|known| plain(known) == *name)
        {
            *name = known.to_owned();
        }
        if path.len() == 3 && path[0] == "log" && path[1] == "properties" {
            path[2] = path[2].replace('_', ".");
        }
        path
    }
}

/// One layer for figment; `place` is where its faults are reported.
struct Layer {
    place: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// What is given for a path outside a file. The client library's settings are text, whatever they look like: a
/// password of digits must not become a number.
fn given(path: &[String], text: &str) -> Value {
    if path.starts_with(&["log".to_owned(), "properties".to_owned()]) { text.into() } else { scalar(text) }
}

/// Text as a TOML value if it is one, otherwise as it is: `6` is a number, `5 min` is text.
fn scalar(text: &str) -> Value {
    text.parse::<toml_edit::Value>().map_or_else(|_| text.into(), |value| from_scalar(&value))
}

fn nested(path: &[String], value: Value) -> Dict {
    let (first, rest) = path.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let value = if rest.is_empty() { value } else { nested(rest, value).into() };
    Dict::from([(first.to_owned(), value)])
}
