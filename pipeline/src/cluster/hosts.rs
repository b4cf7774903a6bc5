//! The processes of a cluster, as a file of hosts names them.

use std::path::Path;

use crate::commands::Usage;

/// Where the processes of a cluster are, and which of them this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// `HOST:PORT` of each process, in the order of their numbers.
    pub addresses: Vec<String>,
    /// Number of this process, from 0.
    pub process: usize,
}

impl Hosts {
    /// Reads a file with `HOST:PORT` on each line; what follows a `#` is a comment.
    ///
    /// # Errors
    /// The file cannot be read, a line is no address, one is there twice, or the process is not among them.
    pub fn read(path: &Path, process: usize) -> Result<Self, Usage> {
        let fault = |fault: &dyn std::fmt::Display| Usage(format!("the file of hosts {}: {fault}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
        Self::parse(&text, process).map_err(|error| fault(&error))
    }

    /// The same, of a text.
    ///
    /// # Errors
    /// What is wrong with it.
    ///
    /// ```
    /// use squall_pipeline::cluster::Hosts;
    /// let hosts = Hosts::parse("radar-0:2101 # with the GPU\nradar-1:2101\n", 1).unwrap();
    /// assert_eq!(hosts.addresses, ["radar-0:2101", "radar-1:2101"]);
    /// assert!(Hosts::parse("radar-0:2101", 1).is_err());
    /// ```
    pub fn parse(text: &str, process: usize) -> Result<Self, String> {
        let mut addresses: Vec<String> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let address = line.split('#').next().unwrap_or_default().trim();
            if address.is_empty() {
                continue;
            }
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
                return Err(format!("line {}: expected HOST:PORT, found {address:?}", number + 1));
            }
            if addresses.iter().any(|known| known == address) {
                return Err(format!("line {}: {address} is there twice", number + 1));
            }
            addresses.push(address.to_owned());
        }
        if process >= addresses.len() {
            return Err(format!("there is no process {process}: it names {}, the first is 0", addresses.len()));
        }
        Ok(Self { addresses, process })
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.addresses.len()
    }

    /// A process for people.
    pub(super) fn name(&self, process: usize) -> String {
        format!("process {process} ({})", self.addresses[process])
    }
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn a_faulty_line_is_named() {
        let fault = |text: &str| Hosts::parse(text, 0).unwrap_err();
        assert_eq!(fault("a:1\n\nb\n"), "line 3: expected HOST:PORT, found \"b\"");
        assert_eq!(fault("a:70000"), "line 1: expected HOST:PORT, found \"a:70000\"");
        assert_eq!(fault(":2101"), "line 1: expected HOST:PORT, found \":2101\"");
        assert_eq!(fault("a:1\na:1"), "line 2: a:1 is there twice");
        assert_eq!(fault("# none"), "there is no process 0: it names 0, the first is 0");
        assert!(Hosts::parse("[::1]:2101\n", 0).is_ok());
    }
}
