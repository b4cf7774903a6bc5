//! Models in the latent space of an autoencoder.

use super::*;
use crate::diffusion::ConditionParts;
use crate::network::AutoencoderConfig;

/// Wind in tiles of 8 x 8 latent cells of 2 x 2 pixels.
fn latent() -> Metadata {
    let variables = vec![Variable::EastwardWind, Variable::NorthwardWind];
    let mut network = UNetConfig::tiny(3);
    network.attention = vec![2];
    Metadata::of(ModelSpec {
        transforms: variables.iter().map(|v| Transform::of(*v)).collect(),
        variables,
        network,
        autoencoder: Some(AutoencoderConfig::tiny()),
        target: Target::Noise,
        first_guess: FirstGuess::None,
        residual: None,
        tiling: Tiling { tile: (8, 8), overlap: 2 },
        ..spec()
    })
}

/// Two frames of wind; the first `missing` rows and columns are always missing together.
fn wind(rows: usize, columns: usize, members: usize, missing: usize) -> Request {
    let mut request = request(rows, columns, members, true);
    for (i, frame) in Arc::make_mut(&mut request.window).frames.iter_mut().enumerate() {
        let frame = Arc::make_mut(frame.as_mut().unwrap());
        frame.variables = Arc::from([Variable::EastwardWind, Variable::NorthwardWind]);
        frame.values = Array3::from_shape_fn((2, rows, columns), |(v, y, x)| {
            let known = y >= missing || x >= missing;
            if known { 20.0 * (0.3 * (x + i) as f32 + 0.2 * y as f32 + v as f32).sin() } else { f32::NAN }
        });
    }
    request
}

#[test]
fn any_size_of_domain_and_missing_stays_missing() {
    let mut forecaster = forecaster(&latent(), &Options::default());
    // Smaller than a tile; one tile; more than one tile and no multiple of a latent cell.
    for (rows, columns) in [(5, 7), (16, 16), (21, 39)] {
        let prediction = forecaster.forecast(&[wind(rows, columns, 2, 5)]).remove(0).unwrap();
        let variables: Vec<Variable> = prediction.ensembles.iter().map(|e| e.variable).collect();
        assert_eq!(variables, [Variable::EastwardWind, Variable::NorthwardWind]);
        for ensemble in prediction.ensembles {
            assert_eq!(ensemble.values.dim(), (2, 3, rows, columns));
            for ((_, _, y, x), v) in ensemble.values.indexed_iter() {
                assert_eq!(v.is_finite(), y >= 5 || x >= 5, "{rows} x {columns}, {y} {x}: {v}");
            }
        }
    }
}

#[test]
fn a_member_does_not_change_with_the_ensemble_the_batch_or_other_requests() {
    for batch in [1, 3] {
        let mut forecaster = forecaster(&latent(), &Options { batch, ..Default::default() });
        let many = values(&mut forecaster, wind(18, 34, 4, 3));
        let mut answers = forecaster.forecast(&[wind(16, 16, 1, 0), wind(18, 34, 2, 3)]);
        let few = answers.remove(1).unwrap().ensembles.remove(0).values;
        for member in 0..2 {
            let (a, b) = (many.index_axis(Axis(0), member), few.index_axis(Axis(0), member));
            assert!(same_bits(a, b), "batch {batch}, member {member}");
        }
        assert!(!same_bits(many.index_axis(Axis(0), 0), many.index_axis(Axis(0), 1)), "members differ");
    }
}

/// The forecast step by step: encode, sample, decode.
#[test]
fn a_forecast_is_the_decoded_sample_of_the_encoded_history() {
    let mut forecaster = forecaster(&latent(), &Options::default());
    let request = wind(16, 16, 1, 0);
    let meta = latent().spec;
    let autoencoder = forecaster.model.autoencoder.as_ref().unwrap();
    let expected = tch::no_grad(|| {
        let encoded = request.window.frames.iter().flatten().map(|frame| {
            let scaled = frame.values.indexed_iter().map(|((v, _, _), x)| meta.transforms[v].forward(*x));
            autoencoder.encode(&Tensor::from_slice(&scaled.collect::<Vec<f32>>()).reshape([1, 2, 16, 16]))
        });
        let frames: Vec<Tensor> = encoded.collect();
        let history = Tensor::stack(&frames, 1);
        let condition =
            ConditionParts { history: &history, frames: 5, first_guess: None, extra: None, seen: History::Frames }
                .assemble();
        let digest = &forecaster.digest;
        let random = Philox::of_member(digest, &request.stream, request.window.issue_time, 0, "noise");
        let noise = noise::field(&random, 5, 3, 8, 8).unsqueeze(0);
        let process = &forecaster.sampler.process;
        let denoiser = NetworkDenoiser { network: &forecaster.model.network, process };
        let sample = forecaster.sampler.sample(&denoiser, &condition, &noise).frames;
        autoencoder.decode(&sample.get(0).narrow(0, 2, 3)).contiguous()
    });
    let prediction = forecaster.forecast(&[request]).remove(0).unwrap();
    for (channel, (ensemble, transform)) in prediction.ensembles.iter().zip(&meta.transforms).enumerate() {
        for ((_, lead, y, x), v) in ensemble.values.indexed_iter() {
            let expected = expected.double_value(&[lead, channel, y, x].map(|i| i as i64)) as f32;
            let difference = v - transform.inverse(expected);
            assert!(difference.abs() < 1e-3, "{channel} {lead} {y} {x}: {v} differs by {difference}");
        }
    }
}

#[test]
fn a_latent_cell_is_missing_where_all_its_pixels_are() {
    let forecaster = forecaster(&latent(), &Options::default());
    let frames = Tensor::ones([1, 2, 2, 7, 8], (Kind::Float, Device::Cpu));
    // Three columns of both variables: one whole latent cell and half of the next. One variable alone is not missing.
    let _ = frames.narrow(4, 0, 3).fill_(f64::NAN);
    let _ = frames.narrow(2, 0, 1).narrow(4, 6, 2).fill_(f64::NAN);
    let encoded = tch::no_grad(|| forecaster.space().encode(&frames));
    assert_eq!(encoded.size(), [1, 2, 3, 4, 4]);
    let missing: Vec<bool> = (0..4).map(|x| encoded.select(4, x).isnan().all().int64_value(&[]) == 1).collect();
    let known: Vec<bool> = (0..4).map(|x| encoded.select(4, x).isfinite().all().int64_value(&[]) == 1).collect();
    assert_eq!((missing, known), (vec![true, false, false, false], vec![false, true, true, true]));
}

#[test]
fn the_precision_map_lies_on_the_pixels() {
    let guidance = Guidance::Precision(PrecisionConfig { strength: 1.5, queue: 2, ..Default::default() });
    let sampler = SamplerConfig { guidance, ..latent().spec.sampler };
    let mut guided = forecaster(&latent(), &Options { sampler: Some(sampler), ..Default::default() });
    let precision = guided.forecast(&[wind(21, 19, 2, 2)]).remove(0).unwrap().precision.unwrap();
    assert_eq!(precision.dim(), (3, 21, 19));
    for ((lead, y, x), v) in precision.indexed_iter() {
        assert_eq!(v.is_nan(), y < 2 && x < 2, "{lead} {y} {x}: {v}");
        assert!(v.is_nan() || *v >= 0.0 && *v == precision[[lead, y / 2 * 2, x / 2 * 2]]);
    }
    let differ = precision.iter().filter(|v| v.is_finite()).any(|v| *v != precision[[0, 20, 18]]);
    assert!(differ, "every cell is as uncertain as any other");
}
