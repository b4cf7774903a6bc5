//! The host's part of the next batch, made on a thread of its own while the network computes.
//!
//! Crops are cut, transformed, mirrored and put side by side on the CPU. What is drawn is a function of the seed and the number of the
//! batch, so it does not matter when: an archive takes what was drawn ahead if it was drawn by the same [`Order`], and
//! else draws here and now. At most one batch lies ahead.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};

use tch::Device;

use super::batch::{self, Crops, Order};
use super::config::TrainingConfig;
use super::data::Archive;
use crate::device;

/// Draws the crops of one batch ahead. Its thread starts with the first and ends with it.
#[derive(Debug, Default)]
pub struct Ahead {
    drawer: Option<Drawer>,
    /// What was asked for last and has not been taken.
    asked: Option<(Archive, Order)>,
}

/// A batch to draw.
#[derive(Debug)]
struct Ask {
    archive: Archive,
    training: TrainingConfig,
    order: Order,
    device: Device,
}

/// The thread.
#[derive(Debug)]
struct Drawer {
    /// Always there until the end.
    asks: Option<Sender<Ask>>,
    drawn: Receiver<Crops>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts drawing the crops of a batch that will go to a device. Nothing is asked of it while a batch waits to be taken.
    pub fn ask(&mut self, archive: &Archive, training: &TrainingConfig, order: Order, device: Device) {
        if self.asked.is_some() {
            return;
        }
        if self.drawer.is_none() {
            // Without a thread every batch is drawn when it is needed.
            self.drawer = Drawer::start().map_err(|error| tracing::warn!(%error, "no batches are drawn ahead")).ok();
        }
        let ask = Ask { archive: archive.with(None), training: training.clone(), order: order.clone(), device };
        let sent = self.drawer.as_ref().and_then(|drawer| drawer.asks.as_ref()?.send(ask).ok());
        self.asked = sent.map(|()| (archive.with(None), order));
    }

    /// The archive with the crops of a batch at hand, if just these were drawn ahead; waits until they are.
    pub fn take(&mut self, archive: &Archive, order: &Order) -> Archive {
        let Some((of, asked)) = self.asked.take() else { return archive.with(None) };
        let crops = self.drawer.as_ref().and_then(|drawer| drawer.drawn.recv().ok());
        if crops.is_none() {
            // It has panicked, and so will whoever draws the same again, who says why.
            self.drawer = None;
        }
        archive.with(crops.filter(|_| of.is(archive) && asked == *order).map(|crops| (asked, crops)))
    }
}

impl Drawer {
    fn start() -> std::io::Result<Self> {
        let (asks, asked) = mpsc::channel::<Ask>();
        let (done, drawn) = mpsc::channel();
        let draw = move || {
            for Ask { archive, training, order, device } in asked {
                let crops = batch::drawn(&training, &archive, &order).map(|part| device::pinned(part, device));
                if done.send(crops).is_err() {
                    break;
                }
            }
        };
        let thread = Builder::new().name("next batch".to_owned()).spawn(draw)?;
        Ok(Self { asks: Some(asks), drawn, thread: Some(thread) })
    }
}

impl Drop for Drawer {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // Whether it panicked has been seen by whoever waited for it.
            let _ = thread.join();
        }
    }
}
