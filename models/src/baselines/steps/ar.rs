//! How a level of the cascade goes on: an autoregressive process of second order.
//!
//! `x(t) = phi_1 x(t - 1) + phi_2 x(t - 2) + phi_0 e(t)` with noise `e` of unit variance. The coefficients follow from
//! the correlation with the two frames before (Yule and Walker), and keep the variance at 1.

/// Coefficients of one level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    /// Of the newest state.
    pub(super) phi_1: f64,
    /// Of the one before.
    pub(super) phi_2: f64,
    /// Of the noise.
    pub(super) phi_0: f64,
}

/// Correlations this close to 1 are 1: nothing has changed from frame to frame.
const CLOSE_TO_ONE: f64 = 1e-9;

/// The least correlation at lag 2 with which the process is stationary and does not oscillate.
pub(super) fn adjusted_lag_2(gamma_1: f64, gamma_2: f64) -> f64 {
    let squared = gamma_1 * gamma_1;
    // Near 0 the quotient loses all its digits; its series begins with this.
    let least = if squared < 1e-6 {
        0.75 * squared
    } else {
        (3.0 * squared - 2.0 + 2.0 * (1.0 - squared).max(0.0).powf(1.5)) / squared
    };
    gamma_2.max(2.0 * gamma_1 * gamma_2 - 1.0).max(least)
}

impl Process {
    /// From the correlations at lag 1 and lag 2, the second of them adjusted. What is not a number is no correlation.
    pub(super) fn new(gamma_1: f64, gamma_2: f64) -> Self {
        let number = |gamma: f64| if gamma.is_finite() { gamma.clamp(-1.0, 1.0) } else { 0.0 };
        let (gamma_1, gamma_2) = (number(gamma_1), number(gamma_2));
        let rest = 1.0 - gamma_1 * gamma_1;
        if rest < CLOSE_TO_ONE {
            return Self { phi_1: gamma_1.signum(), phi_2: 0.0, phi_0: 0.0 };
        }
        let gamma_2 = adjusted_lag_2(gamma_1, gamma_2).min(1.0);
        let phi_1 = gamma_1 * (1.0 - gamma_2) / rest;
        let phi_2 = (gamma_2 - gamma_1 * gamma_1) / rest;
        let phi_0 = (1.0 - gamma_1 * phi_1 - gamma_2 * phi_2).max(0.0).sqrt();
        Self { phi_1, phi_2, phi_0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variance_stays_one() {
        for (gamma_1, gamma_2) in [(0.95, 0.9), (0.6, 0.5), (0.2, -0.3), (0.0, 0.0), (-0.4, 0.1), (0.999, 0.2)] {
            let Process { phi_1, phi_2, phi_0 } = Process::new(gamma_1, gamma_2);
            assert!(phi_2.abs() < 1.0 && phi_1 + phi_2 < 1.0 && phi_2 - phi_1 < 1.0, "{gamma_1}: stationary");
            let variance = phi_0.powi(2) * (1.0 - phi_2) / ((1.0 + phi_2) * ((1.0 - phi_2).powi(2) - phi_1.powi(2)));
            assert!((variance - 1.0).abs() < 1e-6, "{gamma_1} {gamma_2}: {variance}");
        }
    }

    #[test]
    fn what_does_not_change_goes_on_unchanged_and_what_is_unknown_is_noise() {
        assert_eq!(Process::new(1.0, 1.0), Process { phi_1: 1.0, phi_2: 0.0, phi_0: 0.0 });
        assert_eq!(Process::new(f64::NAN, f64::NAN), Process { phi_1: 0.0, phi_2: 0.0, phi_0: 1.0 });
    }
}
