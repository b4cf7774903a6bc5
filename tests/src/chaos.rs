//! Kills, freezes and cuts off a program while an event streams in, and counts what its consumers see of it.
//!
//! An event goes through an undisturbed run first. Then it streams in again, in rounds, while the program is killed at
//! moments where it hurts, the broker too, while frozen and cut-off predecessors come back beside their successors, until as
//! many disturbances have happened as were asked for and the last round has come to its end. Every record that a
//! `read_committed` consumer sees must be the undisturbed run's, once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256, Sha512};

use crate::files::below;
use crate::freeze::FrozenProcesses;
use crate::program::until;
use crate::setting::LIMIT;
use crate::topics::Topics;
use crate::{Kafka, Proxy, Running, Seen, Setting};

/// How long a moment is waited for before the disturbance happens anyway.
const MOMENT: Duration = Duration::from_secs(10);
/// With so many disturbances each moment must have come at least once.
const MANY: u32 = 30;
/// The event ends where its publisher says so, also when a start comes before that.
const MARKER: &str = "runtime.until_marker=true";
/// Topic that the event streams into.
const OBSERVATIONS: &str = "chaos.observations";
/// How long the program may take to recover from anything.
const RECOVERY: Duration = Duration::from_secs(120);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The event, an archive of rain.
    pub input: PathBuf,
    /// How many disturbances.
    pub kills: u32,
    /// Key of what is drawn by chance.
    pub seed: u64,
    /// Seconds in which the event streams in; it lasts longer where it cannot be kept up with.
    pub seconds: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Disturbances of all kinds.
    pub kills: u32,
    /// Times that the broker was killed.
    pub broker_kills: u32,
    /// Predecessors that came back beside their successors.
    pub zombies: u32,
    /// Times that the network was cut.
    pub cuts: u32,
    /// Records of the undisturbed runs.
    pub expected: usize,
    /// Records that consumers see.
    pub committed: usize,
    /// Records of the undisturbed run that nobody sees.
    pub missing: usize,
    /// Records that are there once too often.
    pub duplicate: usize,
    /// Records or files that are not those of the undisturbed run.
    pub different: usize,
    /// What became of each moment, in the order of all.
    moments: [Waits; Moment::ALL.len()],
}

/// How often a moment was waited for at a disturbance, and how often it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waits {
    waited: u32,
    came: u32,
}

impl Report {
    /// Whether consumers noticed nothing.
    pub fn is_clean(&self) -> bool {
        (self.missing, self.duplicate, self.different) == (0, 0, 0) && self.expected > 0
    }

    /// Whether there were so many disturbances that each moment should have come, and one never did: nothing is known
    /// of it.
    pub fn lacks_a_moment(&self) -> bool {
        self.kills >= MANY && self.moments.iter().any(|waits| waits.came == 0)
    }

    /// How often each moment came of the times that it was waited for, for a person.
    pub fn moments(&self) -> String {
        let one = |(moment, waits): (&Moment, &Waits)| format!("{}: {} of {}", moment.name(), waits.came, waits.waited);
        Moment::ALL.iter().zip(&self.moments).map(one).collect::<Vec<_>>().join(", ")
    }

    fn count(&mut self, moment: Moment, came: bool) {
        let waits = &mut self.moments[moment as usize];
        waits.waited += 1;
        waits.came += u32::from(came);
    }
}

/// As one line of JSON.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, broker_kills, zombies, cuts, expected, committed, missing, duplicate, different, .. } = self;
        write!(f, "{{\"kills\":{kills},\"broker_kills\":{broker_kills},\"zombies\":{zombies},\"cuts\":{cuts},")?;
        write!(f, "\"expected\":{expected},\"committed\":{committed},")?;
        write!(f, "\"missing\":{missing},\"duplicate\":{duplicate},\"different\":{different}}}")
    }
}

/// A moment at which a program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Some time after it began to run.
    Anywhere,
    /// While a transaction is open.
    Transaction,
    /// After a file was stored, before the transaction that points at it.
    Stored,
    /// While it reads again what its windows rest on.
    Recovery,
    /// While it claims its ledger.
    Claim,
}

impl Moment {
    const ALL: [Self; 5] = [Self::Anywhere, Self::Transaction, Self::Stored, Self::Recovery, Self::Claim];

    /// What it is called.
    fn name(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::Transaction => "in the transaction",
            Self::Stored => "between store write and commit",
            Self::Recovery => "during recovery",
            Self::Claim => "during a claim",
        }
    }

    /// What the program says then.
    fn line(self) -> Option<&'static str> {
        match self {
            Self::Anywhere | Self::Stored => None,
            Self::Transaction => Some("a transaction begins"),
            Self::Recovery => Some("going on from what is committed"),
            Self::Claim => Some("claiming the ledger"),
        }
    }

    /// Most milliseconds that pass from there to the kill.
    fn spread_ms(self) -> u64 {
        match self {
            Self::Anywhere => 2500,
            Self::Transaction => 12,
            Self::Stored => 4,
            Self::Recovery => 400,
            Self::Claim => 30,
        }
    }
}

/// Numbers by chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn milliseconds(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(most * 1000 + 1))
    }
}

/// Runs it all.
pub fn run(options: &Options) -> Report {
    let proxy = Proxy::new();
    let kafka = Kafka::behind(&proxy);
    let mut chaos = Chaos {
        kafka,
        proxy,
        options,
        dice: Dice(options.seed),
        report: Report::default(),
        reference: BTreeMap::new(),
    };
    chaos.undisturbed();
    while chaos.report.kills < options.kills {
        chaos.round();
        eprintln!("{}", chaos.report);
    }
    chaos.report
}

/// What came of the wait for a moment.
struct Wait {
    moment: Moment,
    came: bool,
    /// How long to wait after it.
    ahead: Duration,
}

struct Chaos<'a> {
    kafka: Kafka,
    proxy: Proxy,
    options: &'a Options,
    dice: Dice,
    report: Report,
    reference: Records,
}

/// What consumers see, by topic and key: a digest of each record of that key.
type Records = BTreeMap<String, Vec<[u8; 32]>>;

impl Chaos<'_> {
    fn setting(&self) -> Setting {
        let mut setting = Setting::new("chaos");
        setting.partitions = 3;
        setting.workers = 2;
        setting.address = Some(self.kafka.address().to_owned());
        setting.name = Some("chaos".to_owned());
        // Files and records name the topic of their inputs: it has the same name each time.
        setting.observations = Some(OBSERVATIONS.to_owned());
        setting.stream = "model = { name = \"extrapolation\" }\nwindow_frames = 3\nleads = 2\nmembers = 2\n\
                          thresholds = [0.1, 1.0]\n"
            .to_owned();
        setting
    }

    fn publish(&self, setting: &Setting, speed: &str) -> Running {
        let (config, input) = (setting.config(), self.options.input.display().to_string());
        let slots = ["--partitions-by", "slot", "--shuffle-within", "7 min", "--speed", speed, "--end"];
        setting.start(&[&["publish", &input, "--config", &config][..], &slots].concat())
    }

    fn start(&self, setting: &Setting, address: &str) -> Running {
        let address = format!("log.bootstrap_servers={address}");
        setting.start(&["run", &setting.config(), "-vv", "--set", MARKER, "--set", &address])
    }

    fn undisturbed(&mut self) {
        let setting = self.setting();
        self.publish(&setting, "max").success(LIMIT);
        self.start(&setting, self.kafka.address()).success(LIMIT);
        self.reference = self.seen(&setting).0;
        assert!(!self.reference.is_empty(), "the undisturbed run made no forecast of {}", self.options.input.display());
    }

    /// Streams the event in once, and disturbs as long as there is something left to disturb and to disturb with.
    fn round(&mut self) {
        let setting = self.setting();
        Topics::of(self.kafka.address()).delete(OBSERVATIONS);
        let event = crate::rain::Rain::open(&self.options.input);
        let length = event.slots.last().zip(event.slots.first()).map_or(0, |(last, first)| last - first);
        let speed = format!("{}x", (length / i64::from(self.options.seconds.max(1))).max(1));
        let publisher = self.publish(&setting, &speed);
        let through = format!("127.0.0.1:{}", self.proxy.port());
        let mut main = self.start(&setting, &through);
        let mut fresh = true;
        while self.report.kills < self.options.kills && !main.has_ended() {
            let turn = self.report.kills + 1;
            let Wait { moment, came, ahead } = self.wait_for_moment(&setting, &mut main, fresh, turn);
            if main.has_ended() {
                break;
            }
            self.report.kills = turn;
            self.report.count(moment, came);
            fresh = false;
            match turn % 10 {
                0 => {
                    self.report.broker_kills += 1;
                    self.kafka.broker().kill().expect("a broker that can be killed");
                    self.kafka.broker().restart().expect("a broker that comes back");
                }
                3 => {
                    self.report.zombies += 1;
                    let zombie = FrozenProcesses::new(vec![main.pid()]);
                    let successor = self.start(&setting, &through);
                    main = self.succeed(successor, main, || drop(zombie));
                }
                6 => {
                    self.report.cuts += 1;
                    self.proxy.cut();
                    std::thread::sleep(Duration::from_secs(1) + self.dice.milliseconds(7000));
                    self.proxy.mend();
                }
                8 => {
                    self.report.cuts += 1;
                    self.report.zombies += 1;
                    self.proxy.cut();
                    std::thread::sleep(self.dice.milliseconds(12_000));
                    let successor = self.start(&setting, self.kafka.address());
                    main = self.succeed(successor, main, || self.proxy.mend());
                }
                _ => {
                    std::thread::sleep(ahead);
                    main.kill();
                    main = self.start(&setting, &through);
                    fresh = true;
                }
            }
        }
        // A predecessor that lives on would have told by now; what is left streams in undisturbed.
        publisher.success(RECOVERY + Duration::from_secs(2 * u64::from(self.options.seconds)));
        main.success(LIMIT + RECOVERY);
        self.compare(&setting);
    }

    /// The moment of the next disturbance, by chance. In the second half of a run those go first that never came.
    fn draw(&mut self, fresh: bool, turn: u32) -> Moment {
        let can_come = |moment: &Moment| fresh || !matches!(moment, Moment::Recovery | Moment::Claim);
        let never_came = |moment: &Moment| self.report.moments[*moment as usize].came == 0;
        let lacking: Vec<Moment> = Moment::ALL.into_iter().filter(|m| can_come(m) && never_came(m)).collect();
        let among = if turn > self.options.kills / 2 && !lacking.is_empty() { &lacking[..] } else { &Moment::ALL[..] };
        let moment = among[self.dice.below(among.len() as u64) as usize];
        if can_come(&moment) { moment } else { Moment::Transaction }
    }

    /// Waits for the moment of the next disturbance, but not for ever.
    fn wait_for_moment(&mut self, setting: &Setting, main: &mut Running, fresh: bool, turn: u32) -> Wait {
        let moment = self.draw(fresh, turn);
        let ahead = self.dice.milliseconds(moment.spread_ms());
        let seen = |main: &Running| moment.line().map_or(0, |line| main.output().matches(line).count());
        let before = if fresh { 0 } else { seen(main) };
        let stored = below(&setting.store(), "nc").len();
        let came = |main: &mut Running| match moment {
            Moment::Anywhere => main.output().contains("running"),
            Moment::Stored => below(&setting.store(), "nc").len() > stored,
            _ => seen(main) > before,
        };
        let start = Instant::now();
        while start.elapsed() < MOMENT && !came(main) && !main.has_ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let came = came(main);
        eprintln!("{turn}: {}{} and {ahead:?}", moment.name(), if came { "" } else { ", which did not come," });
        Wait { moment, came, ahead }
    }

    /// A successor has started: it takes the place, the predecessor comes back, and must stop without having written. One that
    /// was held up before it claimed anything claims last, and then it is the other that has to stop. Who goes on.
    fn succeed(&self, mut successor: Running, mut predecessor: Running, back: impl FnOnce()) -> Running {
        let claimed = until(RECOVERY, || successor.output().contains("running") || successor.has_ended());
        assert!(claimed, "the successor does not run:\n{}", successor.output());
        let had_claimed = predecessor.output().contains("claiming the ledger");
        back();
        until(RECOVERY, || predecessor.has_ended() || (!had_claimed && successor.has_ended()));
        let (on, mut off) = match predecessor.has_ended() || had_claimed {
            true => (successor, predecessor),
            false => (predecessor, successor),
        };
        // Either it was asked for nothing any more, or it finds out at its next commit.
        let status = off.end(Duration::ZERO);
        assert!(matches!(status.code(), Some(0 | 6)), "it ended with {status}:\n{}", off.output());
        on
    }

    /// What consumers see of a setting's stream; and how many files are not what their records say.
    fn seen(&self, setting: &Setting) -> (Records, usize) {
        let (mut records, mut damaged) = (Records::new(), 0);
        for kind in ["index", "probabilities", "quantiles"] {
            for record in self.kafka.read(&setting.topic(kind)) {
                if kind == "index" {
                    damaged += usize::from(!is_whole(&record));
                }
                let name = format!("{kind} {} {}", String::from_utf8_lossy(&record.key), record.header("revision"));
                records.entry(name).or_default().push(digest(setting, &record));
            }
        }
        (records, damaged)
    }

    fn compare(&mut self, setting: &Setting) {
        let (seen, damaged) = self.seen(setting);
        let report = &mut self.report;
        report.different += damaged;
        report.expected += self.reference.values().map(Vec::len).sum::<usize>();
        report.committed += seen.values().map(Vec::len).sum::<usize>();
        for (name, expected) in &self.reference {
            let found = seen.get(name).map_or(&[][..], Vec::as_slice);
            report.missing += expected.len().saturating_sub(found.len());
            report.duplicate += found.len().saturating_sub(expected.len());
            report.different += found.iter().filter(|digest| !expected.contains(digest)).count();
        }
        let unknown = seen.iter().filter(|(name, _)| !self.reference.contains_key(*name));
        report.different += unknown.map(|(_, found)| found.len()).sum::<usize>();
    }
}

/// Digest of a record, without the names of the test's topics and folders.
fn digest(setting: &Setting, record: &Seen) -> [u8; 32] {
    let names = [setting.prefix().to_owned(), setting.store().display().to_string()];
    let neutral = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => names.iter().fold(text.to_owned(), |text, name| text.replace(name, "")).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    let mut digest = Sha256::new();
    for (name, value) in &record.headers {
        // It names the record, and with it the topic.
        if name != "ce_id" {
            digest.update(name);
            digest.update(neutral(value));
        }
    }
    digest.update(neutral(&record.value));
    digest.finalize().into()
}

/// Whether the file that an index record points at is there, and is what the record says.
fn is_whole(record: &Seen) -> bool {
    use base64::Engine as _;
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&record.value) else { return false };
    let href = json["links"][0]["href"].as_str().unwrap_or_default();
    let Ok(bytes) = std::fs::read(Path::new(href.strip_prefix("file://").unwrap_or(href))) else { return false };
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(bytes));
    json["properties"]["integrity"]["value"] == digest.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_needs_each_moment_and_a_short_one_does_not() {
        let mut report = Report { kills: MANY, ..Report::default() };
        for moment in Moment::ALL {
            assert!(report.lacks_a_moment(), "{}", report.moments());
            report.count(moment, false);
            assert!(report.lacks_a_moment(), "{}", report.moments());
            report.count(moment, true);
        }
        assert!(!report.lacks_a_moment(), "{}", report.moments());
        assert!(report.moments().ends_with("during a claim: 1 of 2"), "{}", report.moments());
        assert!(!Report { kills: MANY - 1, ..Report::default() }.lacks_a_moment());
    }
}
