//! Probability matching: a forecast gets the distribution of values that was observed last.
//!
//! The wettest cell gets the highest observed value, the next the next, and so on; what is not wet stays dry. Only as
//! many cells as were observed wet need to be sorted.

/// The observed distribution.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Values above the least, ascending.
    wet: Vec<f32>,
    /// The least value.
    dry: f32,
}

impl Target {
    /// Of a field without missing values.
    pub(super) fn new(field: &[f32]) -> Self {
        let dry = field.iter().copied().fold(f32::INFINITY, f32::min);
        let mut wet: Vec<f32> = field.iter().copied().filter(|v| *v > dry).collect();
        wet.sort_unstable_by(f32::total_cmp);
        Self { wet, dry }
    }

    /// Replaces how far a field lies above its least value (0: dry, and it stays so) by observed values.
    pub(super) fn impose(&self, excess: &mut [f32], ranks: &mut Vec<u64>) {
        ranks.clear();
        // The bits of positive floats order as the floats do.
        let key = |(i, v): (usize, &f32)| (*v > 0.0).then(|| u64::from(v.to_bits()) << 32 | i as u64);
        ranks.extend(excess.iter().enumerate().filter_map(key));
        excess.fill(self.dry);
        let forecast_wet = ranks.len();
        let used = forecast_wet.min(self.wet.len());
        if used == 0 {
            return;
        }
        let top = if used < forecast_wet {
            ranks.select_nth_unstable(forecast_wet - used);
            &mut ranks[forecast_wet - used..]
        } else {
            &mut ranks[..]
        };
        top.sort_unstable();
        for (rank, value) in top.iter().zip(&self.wet[self.wet.len() - used..]) {
            excess[*rank as u32 as usize] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(forecast: &[f32], observed: &[f32]) -> Vec<f32> {
        let mut out = forecast.to_vec();
        Target::new(observed).impose(&mut out, &mut Vec::new());
        out
    }

    #[test]
    fn ranks_stay_and_values_are_the_observed_ones() {
        let observed = [-15.0, 2.0, -15.0, 7.0, -15.0, 4.0];
        assert_eq!(matched(&[0.0, 0.1, 0.3, 0.2, 0.0, 0.0], &observed), [-15.0, 2.0, 7.0, 4.0, -15.0, -15.0]);
        assert_eq!(matched(&[0.5, 0.1, 0.3, 0.2, 0.4, 0.0], &observed), [7.0, -15.0, 2.0, -15.0, 4.0, -15.0]);
    }

    #[test]
    fn dry_forecasts_and_dry_observations_stay_dry() {
        assert_eq!(matched(&[0.0; 4], &[-15.0, 1.0, 2.0, 3.0]), [-15.0; 4]);
        assert_eq!(matched(&[1.0, 2.0, 3.0, 4.0], &[-15.0; 4]), [-15.0; 4]);
    }
}
