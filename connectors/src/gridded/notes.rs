//! What was assumed of a file.

use std::fmt;

/// One thing that was decided while a file was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about: `axes`, `crs`, `interval`, `packing`, `calendar`, `names`, `places`, `skipped`.
    pub about: &'static str,
    /// What was decided, and by what.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.text)
    }
}

/// Everything that was assumed of a file, in the order in which it was decided, each thing once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Writes something down.
    pub fn add(&mut self, about: &'static str, text: impl Into<String>) {
        let note = Note { about, text: text.into() };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    /// Takes over what was noted elsewhere.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|note| self.add(note.about, note.text));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.0.iter()
    }

    /// Those of a part of the file that could not be used: the frame is less than it might be.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|note| note.about == "skipped").map(|note| note.text.as_str())
    }
}
