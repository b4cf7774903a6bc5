//! Do two quantities rise together?

/// Pearson's correlation of the pairs without a missing value; `None` if there are fewer than two, or if
/// one side does not vary.
pub fn pearson(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = pairs.filter(|(a, b)| !a.is_nan() && !b.is_nan()).collect();
    let n = pairs.len() as f64;
    let (sum_a, sum_b) = pairs.iter().fold((0.0, 0.0), |(a, b), pair| (a + pair.0, b + pair.1));
    let (mean_a, mean_b) = (sum_a / n, sum_b / n);
    let (mut ab, mut aa, mut bb) = (0f64, 0f64, 0f64);
    for (a, b) in &pairs {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// Spearman's rank correlation of the pairs without a missing value; equal values share their mean rank.
///
/// ```
/// use squall_models::scores::spearman;
/// let cubes = [(1.0, 1.0), (2.0, 8.0), (3.0, 27.0), (f32::NAN, 0.0)];
/// assert_eq!(spearman(cubes.into_iter()), Some(1.0));
/// ```
pub fn spearman(pairs: impl Iterator<Item = (f32, f32)>) -> Option<f64> {
    let (a, b): (Vec<f32>, Vec<f32>) = pairs.filter(|(a, b)| !a.is_nan() && !b.is_nan()).unzip();
    pearson(ranks(&a).into_iter().zip(ranks(&b)))
}

/// Rank of each value from 1 on, equal values sharing their mean.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    // -0 and 0 are equal values that sort apart but side by side.
    for group in order.chunk_by(|i, j| values[*i] == values[*j]) {
        let rank = first as f64 + 0.5 * (group.len() as f64 + 1.0);
        group.iter().for_each(|i| ranks[*i] = rank);
        first += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0, 3.0]), [4.0, 2.0, 4.0, 1.0, 4.0]);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    #[test]
    fn textbook_value_and_degenerate_cases() {
        // IQ and hours of television, a worked example with rho = -29/165.
        let iq = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let hours = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        assert!(close(spearman(iq.into_iter().zip(hours)), -29.0 / 165.0, 1e-12));
        assert_eq!(spearman([(1.0, 2.0), (1.0, 3.0)].into_iter()), None);
        assert_eq!(pearson(std::iter::empty()), None);
    }
}
