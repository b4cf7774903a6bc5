//! The pure core: gathers notes by time and cuts batches at frontiers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_fields::{ForecastId, KnowledgeTime};

use crate::Tick;
use crate::dead_letter::DeadLetters;
use crate::decisions::{IN_A_RECORD, Keeper};
use crate::knowledge::PartitionClock;
use crate::note::{Note, Passed, Published};
use crate::ports::{Outgoing, PartitionId};
use crate::progress::{Decision, Position, Progress};
use crate::verify::{PublishedFile, Whereabouts};
use crate::window::Mark;

/// Records passed without a forecast after which progress is committed for itself.
const PASSED_BEFORE_COMMIT: usize = 1000;

/// Bytes of records after which a batch ends, at a boundary of time: a transaction has a time-out.
const BATCH_BYTES: usize = 8 << 20;

/// What is committed at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Records, in an order that is a function of what they say.
    pub records: Vec<Outgoing>,
    /// The progress that goes with them.
    pub progress: Progress,
    /// The forecasts in it.
    pub forecasts: Vec<Sent>,
}

/// A forecast of a batch.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which one.
    pub id: ForecastId,
    /// Name of the model.
    pub model: String,
    /// Whether it is less than it should be.
    pub degraded: bool,
    /// When the last record that it needed was read.
    pub read_at_us: i64,
    /// Where its file lies.
    pub file: PublishedFile,
}

struct Cursor {
    /// First offset not known before the frontier.
    next: i64,
    /// Where to rewind to when no window holds a record of the partition, and the partition's clock there.
    rewind: (i64, PartitionClock),
    /// Identity of the topic that the offsets belong to.
    topic_id: Option<Arc<str>>,
}

/// The pure core: gathers notes by time and cuts batches at frontiers.
pub struct SinkCore {
    dead_letters: DeadLetters,
    pending: BTreeMap<Tick, Vec<Note>>,
    cursors: BTreeMap<PartitionId, Cursor>,
    mark: Option<Arc<Mark>>,
    recovered: Progress,
    /// When records count as known that a restart would otherwise find known at another time.
    late: BTreeMap<(PartitionId, i64), KnowledgeTime>,
    /// Where decisions are kept for replays, and those that are not committed yet.
    keeper: Option<Keeper>,
    fresh: Vec<Decision>,
    /// Where the whereabouts of forecasts are kept for their verification.
    whereabouts: Option<Whereabouts>,
    digests: BTreeSet<Arc<str>>,
    /// Notes folded into the state since the last commit.
    passed: usize,
    /// Knowledge time of the newest record.
    newest: KnowledgeTime,
}

impl SinkCore {
    /// Goes on from a progress; `dead_letters` is the topic of dead letters.
    pub fn new(dead_letters: DeadLetters, progress: Option<&Progress>) -> Self {
        let recovered = progress.cloned().unwrap_or_default(); // a stream without history
        let clock = |p: &Position| PartitionClock::going_on(p.knowledge, p.taken);
        let cursor = |p: &Position| Cursor { next: p.next, rewind: (p.rewind, clock(p)), topic_id: p.topic_id.clone() };
        let late = recovered.decisions.iter().filter_map(|decision| match decision {
            Decision::Late { partition, offset, knowledge } => Some(((partition.clone(), *offset), *knowledge)),
            Decision::Degraded { .. } | Decision::Skipped { .. } => None,
        });
        Self {
            dead_letters,
            pending: BTreeMap::new(),
            cursors: recovered.positions.iter().map(|p| (p.partition.clone(), cursor(p))).collect(),
            mark: None,
            late: late.collect(),
            keeper: None,
            fresh: Vec::new(),
            whereabouts: None,
            digests: BTreeSet::new(),
            recovered,
            passed: 0,
            newest: KnowledgeTime::default(),
        }
    }

    /// Keeps every decision for replays, too.
    pub fn keeping(self, keeper: Keeper) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Keeps where each forecast lies, too.
    pub fn telling(self, whereabouts: Option<Whereabouts>) -> Self {
        Self { whereabouts, ..self }
    }

    /// The frontier that was committed before the start; 1970 for a stream without history.
    pub fn recovered(&self) -> KnowledgeTime {
        self.recovered.frontier
    }

    /// Takes a note of a time.
    pub fn push(&mut self, time: Tick, note: Note) {
        if let Note::Passed(passed) = &note {
            self.newest = self.newest.max(passed.known_at);
        }
        self.pending.entry(time).or_default().push(note);
    }

    /// Knowledge time of the newest record since the start; 1970 if there was none.
    pub fn newest(&self) -> KnowledgeTime {
        self.newest
    }

    /// All that was known before `frontier`, if there is something to say or `force` asks for progress alone. Where that
    /// is too much for one transaction, only what was known before some earlier time, which the batch's progress names.
    pub fn cut(&mut self, frontier: KnowledgeTime, force: bool) -> Option<Batch> {
        let frontier = self.affordable(frontier);
        let later = self.pending.split_off(&frontier.unix_ms());
        let mut records = Vec::new();
        let mut forecasts = Vec::new();
        for notes in std::mem::replace(&mut self.pending, later).into_values() {
            let first = records.len();
            for note in notes {
                self.fold(note, &mut records, &mut forecasts);
            }
            // Notes of one time come in any order; their records leave in one.
            records[first..].sort_by(|a, b| (&a.topic, &a.key).cmp(&(&b.topic, &b.key)));
        }
        forecasts.sort_by(|a: &Sent, b| a.id.cmp(&b.id));
        if records.is_empty() && !force && self.passed < PASSED_BEFORE_COMMIT {
            return None;
        }
        self.passed = 0;
        // In the transaction of what they are about; what is not committed may be decided anew.
        let fresh = std::mem::take(&mut self.fresh);
        records.extend(self.keeper.iter().flat_map(|keeper| keeper.records(frontier, &fresh)));
        Some(Batch { records, progress: self.progress(frontier), forecasts })
    }

    /// A time up to `frontier` before which there is not too much for one transaction; at least one time is before it.
    fn affordable(&self, frontier: KnowledgeTime) -> KnowledgeTime {
        let mut bytes = 0;
        for (time, notes) in self.pending.range(..frontier.unix_ms()) {
            if bytes >= BATCH_BYTES {
                return KnowledgeTime::at(*time);
            }
            bytes += notes.iter().map(Note::bytes).sum::<usize>();
        }
        frontier
    }

    fn fold(&mut self, note: Note, records: &mut Vec<Outgoing>, forecasts: &mut Vec<Sent>) {
        match note {
            Note::Passed(Passed { partition, offset, known_at, decided, topic_id, after }) => {
                self.passed += 1;
                if self.cursors.get(&partition).is_some_and(|cursor| cursor.topic_id != topic_id) {
                    self.late.retain(|(of, _), _| *of != partition); // of a topic that was made again
                }
                if decided {
                    self.late.insert((partition.clone(), offset), known_at);
                    let partition = partition.clone();
                    self.fresh.push(Decision::Late { partition, offset, knowledge: known_at });
                }
                let next = offset + 1;
                let is_newer = self.cursors.get(&partition).is_none_or(|c| c.topic_id != topic_id || next >= c.next);
                if is_newer {
                    self.cursors.insert(partition, Cursor { next, rewind: (next, after), topic_id });
                }
            }
            Note::Mark(mark) => self.mark = Some(mark),
            Note::Published(published) => {
                let Published { id, model, degraded, read_at_us, decision, file, records: made } =
                    Arc::unwrap_or_clone(published);
                self.digests.insert(id.model_digest.clone());
                records.extend(made);
                records.extend(self.whereabouts.iter().map(|whereabouts| whereabouts.record(&file)));
                self.fresh.extend(decision);
                forecasts.push(Sent { id, model, degraded, read_at_us, file });
            }
            Note::Decided(decision) => self.fresh.push(decision),
            Note::Dead(letter) => records.push(letter.outgoing(&self.dead_letters)),
            Note::Records(made) => records.extend(made),
        }
    }

    fn progress(&mut self, frontier: KnowledgeTime) -> Progress {
        // Until the windows speak for the first time they hold what they held when the progress was committed.
        let held = |id: &PartitionId, topic_id: &Option<Arc<str>>| match &self.mark {
            Some(mark) => mark.oldest_records.get(&(id.clone(), topic_id.clone())).copied(),
            None => {
                let mut before = self.recovered.positions.iter();
                let before = before.find(|p| p.partition == *id && p.topic_id == *topic_id);
                before.map(|p| (p.rewind, PartitionClock::going_on(p.knowledge, p.taken)))
            }
        };
        let position = |(id, cursor): (&PartitionId, &Cursor)| {
            let held = held(id, &cursor.topic_id).filter(|h| h.0 < cursor.rewind.0);
            let (rewind, clock) = held.unwrap_or(cursor.rewind);
            let (knowledge, taken, topic_id) = (clock.newest(), clock.taken(), cursor.topic_id.clone());
            Position { partition: id.clone(), rewind, knowledge, taken, next: cursor.next, topic_id }
        };
        let positions: Vec<_> = self.cursors.iter().map(position).collect();
        // What has fired before the frontier does not fire again: of windows nothing is to be decided again.
        let rewinds: BTreeMap<&PartitionId, i64> = positions.iter().map(|p| (&p.partition, p.rewind)).collect();
        self.late.retain(|(partition, offset), _| rewinds.get(partition).is_some_and(|rewind| offset >= rewind));
        if !self.digests.is_empty() {
            self.recovered.model_digests = std::mem::take(&mut self.digests).iter().map(|d| d.to_string()).collect();
        }
        if let Some(mark) = &self.mark {
            self.recovered.state = mark.state.clone();
        }
        // Beyond what a record takes a restart reads those that were kept for replays.
        let more_decisions = self.keeper.is_some() && self.late.len() > IN_A_RECORD;
        let late = self.late.iter().filter(|_| !more_decisions).map(|((partition, offset), knowledge)| {
            Decision::Late { partition: partition.clone(), offset: *offset, knowledge: *knowledge }
        });
        let decisions = late.collect();
        Progress {
            frontier,
            positions,
            decisions,
            more_decisions,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..self.recovered.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::Recorded;
    use squall_fields::IssueTime;

    fn at(ms: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(ms)
    }

    fn passed(partition: i32, offset: i64, known: i64, decided: bool) -> (Tick, Note) {
        let partition = PartitionId::new("obs", partition);
        let (known_at, after) = (at(known), PartitionClock::starting_at(at(known)));
        (known as Tick, Note::Passed(Passed { partition, offset, known_at, decided, topic_id: None, after }))
    }

    fn mark(oldest: &[(i32, i64, i64)]) -> Note {
        let oldest = oldest.iter().map(|(p, offset, known)| {
            ((PartitionId::new("obs", *p), None), (*offset, PartitionClock::starting_at(at(*known))))
        });
        Note::Mark(Arc::new(Mark { state: Default::default(), oldest_records: oldest.collect() }))
    }

    fn core() -> SinkCore {
        SinkCore::new("dead".into(), None)
    }

    fn position(progress: &Progress, partition: i32) -> (i64, u64, i64) {
        let p = progress.positions.iter().find(|p| p.partition.partition == partition).unwrap();
        (p.rewind, p.knowledge.unix_ms(), p.next)
    }

    #[test]
    fn rewinds_to_the_oldest_record_that_a_window_holds() {
        let mut core = core();
        for (time, note) in
            [passed(0, 4, 100, false), passed(0, 5, 200, false), passed(1, 9, 150, false), passed(0, 6, 300, false)]
        {
            core.push(time, note);
        }
        core.push(200, mark(&[(0, 4, 100)]));
        let batch = core.cut(at(300), true).unwrap();
        assert_eq!(position(&batch.progress, 0), (4, 100, 6), "offset 6 is known at the frontier, not before");
        assert_eq!(position(&batch.progress, 1), (10, 150, 10));
        core.push(300, mark(&[]));
        let batch = core.cut(at(350), true).unwrap();
        assert_eq!(position(&batch.progress, 0), (7, 300, 7));
    }

    #[test]
    fn a_batch_ends_where_it_would_become_too_large() {
        let mut core = core();
        for time in [100, 150, 200] {
            let record = Outgoing {
                topic: "fcst".into(),
                partition: None,
                key: None,
                headers: vec![],
                value: Some(vec![0; BATCH_BYTES / 2 + 1].into()),
                timestamp_ms: None,
            };
            let id = crate::encode::tests::forecast(300, 0).id;
            let records = vec![record];
            let published = {
                let (issue_time, known_at) = (id.issue_time, KnowledgeTime::default());
                let file = PublishedFile { issue_time, revision: 0, known_at, url: String::new() };
                Published { id, model: "m".into(), degraded: false, read_at_us: 0, decision: None, file, records }
            };
            core.push(time, passed(0, time as i64, time as i64, false).1);
            core.push(time, Note::Published(published.into()));
        }
        let first = core.cut(at(300), true).unwrap();
        assert_eq!((first.records.len(), first.progress.frontier), (2, at(200)));
        assert_eq!(position(&first.progress, 0).2, 151, "what is left is not yet passed");
        let second = core.cut(at(300), true).unwrap();
        assert_eq!((second.records.len(), second.progress.frontier), (1, at(300)));
    }

    #[test]
    fn a_topic_that_was_made_again_begins_anew() {
        let mut core = core();
        let of = |topic: &str, (time, note): (Tick, Note)| match note {
            Note::Passed(passed) => (time, Note::Passed(Passed { topic_id: Some(topic.into()), ..passed })),
            other => (time, other),
        };
        for (time, note) in [of("a", passed(0, 40, 100, false)), of("b", passed(0, 0, 200, false))] {
            core.push(time, note);
        }
        let progress = core.cut(at(300), true).unwrap().progress;
        assert_eq!(position(&progress, 0), (1, 200, 1));
        assert_eq!(progress.positions[0].topic_id.as_deref(), Some("b"));
    }

    #[test]
    fn says_nothing_without_something_to_say() {
        let mut core = core();
        core.push(100, passed(0, 4, 100, false).1);
        assert!(core.cut(at(200), false).is_none());
        assert_eq!(position(&core.cut(at(250), true).unwrap().progress, 0), (5, 100, 5), "but does not forget it");
    }

    #[test]
    fn decisions_are_kept_as_long_as_they_are_read_again() {
        let mut core = core();
        core.push(100, passed(0, 4, 100, true).1);
        core.push(100, mark(&[(0, 4, 100)]));
        assert_eq!(core.cut(at(200), true).unwrap().progress.decisions.len(), 1);
        core.push(200, mark(&[]));
        assert!(core.cut(at(300), true).unwrap().progress.decisions.is_empty());
    }

    #[test]
    fn more_decisions_than_a_record_takes_are_found_again_where_they_are_kept() {
        let count = IN_A_RECORD as i64 + 5;
        let mut first = core().keeping(Keeper::new("progress", "live", "rain"));
        for offset in 0..count {
            first.push(100, passed(0, offset, 100, true).1);
        }
        first.push(100, mark(&[(0, 3, 100)]));
        let batch = first.cut(at(200), true).unwrap();
        assert!(batch.progress.more_decisions && batch.progress.decisions.is_empty());
        let recorded = Recorded::read(batch.records.iter().filter_map(|record| record.value.as_deref())).unwrap();
        let progress = recorded.complete(batch.progress);
        assert!(!progress.more_decisions);
        let offset = |decision: &Decision| match decision {
            Decision::Late { offset, .. } => *offset,
            other => panic!("{other:?}"),
        };
        let offsets: Vec<i64> = progress.decisions.iter().map(offset).collect();
        assert_eq!(offsets, (3..count).collect::<Vec<_>>(), "those that are read again");
        let mut again = SinkCore::new("dead".into(), Some(&progress)).keeping(Keeper::new("progress", "live", "rain"));
        assert!(again.cut(at(250), true).unwrap().progress.more_decisions, "they are still ahead");
        again.push(250, mark(&[]));
        again.push(250, passed(0, count, 250, false).1);
        let caught_up = again.cut(at(300), true).unwrap().progress;
        assert!(!caught_up.more_decisions && caught_up.decisions.is_empty());
    }

    #[test]
    fn every_decision_is_kept_with_what_it_is_about_and_once() {
        let mut core = core().keeping(Keeper::new("progress", "live", "rain"));
        let skipped = Decision::Skipped { issue_time: IssueTime::from_unix_seconds(600), revision: 0 };
        core.push(100, passed(0, 4, 100, true).1);
        core.push(150, Note::Decided(skipped.clone()));
        assert!(core.cut(at(200), false).is_none(), "a decision alone is no reason to commit");
        let batch = core.cut(at(250), true).unwrap();
        let [record] = &batch.records[..] else { panic!("{:?}", batch.records) };
        assert_eq!((&*record.topic, record.key.as_deref()), ("progress", Some(&b"live/rain/decisions/250/0"[..])));
        let recorded = Recorded::read([record.value.as_deref().unwrap()]).unwrap();
        assert_eq!(recorded.of_window(IssueTime::from_unix_seconds(600), 0), Some(&skipped));
        assert_eq!(recorded.late(&PartitionId::new("obs", 0)).get(&4), Some(&at(100)));
        assert!(core.cut(at(300), true).unwrap().records.is_empty(), "it was said already");
    }

    #[test]
    fn a_dead_letter_after_a_restart_does_not_forget_what_the_windows_hold() {
        let mut first = core();
        first.push(100, passed(0, 4, 100, false).1);
        first.push(100, mark(&[(0, 4, 100)]));
        let progress = first.cut(at(200), true).unwrap().progress;
        let mut again = SinkCore::new("dead".into(), Some(&progress));
        again.push(200, passed(0, 5, 200, false).1);
        assert_eq!(position(&again.cut(at(250), true).unwrap().progress, 0), (4, 100, 6));
    }

    #[test]
    fn a_restart_without_news_keeps_the_recovered_positions() {
        let mut first = core();
        first.push(100, passed(0, 4, 100, false).1);
        first.push(100, mark(&[(0, 4, 100)]));
        let progress = first.cut(at(200), true).unwrap().progress;
        let mut again = SinkCore::new("dead".into(), Some(&progress));
        assert_eq!(again.cut(at(250), true).unwrap().progress, Progress { frontier: at(250), ..progress });
    }
}
