//! Weights files, written, read, refused and converted.

use std::collections::BTreeMap;

use squall_fields::{Chain, Variable};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::diffusion::{FirstGuess, History, MissingGuess, ProcessConfig, SamplerConfig, Target, Tiling, Transform};
use crate::network::{AutoencoderConfig, UNetConfig, init};

fn spec() -> ModelSpec {
    let mut network = UNetConfig::tiny(1);
    network.attention = vec![2];
    ModelSpec {
        name: "test".to_owned(),
        variables: vec![Variable::RainRate],
        transforms: vec![Transform::of(Variable::RainRate)],
        cadence_seconds: 300,
        spacing_m: (1000.0, 2000.0),
        context: 2,
        leads: 3,
        network,
        predictor: None,
        history: History::Frames,
        autoencoder: None,
        process: ProcessConfig::Plain {},
        target: Target::Velocity,
        first_guess: FirstGuess::None,
        missing_guess: MissingGuess::Zero,
        extra: Vec::new(),
        residual: None,
        tiling: Tiling { tile: (16, 16), overlap: 4 },
        sampler: SamplerConfig::default(),
    }
}

fn metadata() -> Metadata {
    Metadata::of(spec())
}

fn filled(metadata: &Metadata) -> BTreeMap<String, Tensor> {
    let store = nn::VarStore::new(Device::Cpu);
    VideoUNet::new(&at(&store, UNET_PREFIX), &metadata.spec.network);
    init::fill_by_hash(&store);
    store.variables().into_iter().collect()
}

#[test]
fn a_model_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let metadata = metadata();
    for (kind, tolerance) in [(Kind::Float, 0.0), (Kind::Half, 1e-3), (Kind::BFloat16, 1e-2)] {
        save(&path, &metadata, &filled(&metadata), kind).unwrap();
        let model = Model::load(&path, ComputeDevice::CPU_F32).unwrap();
        assert_eq!(model.metadata.units, ["mm h-1"]);
        assert_eq!((model.metadata.spec.leads, model.metadata.spec.target), (3, Target::Velocity));
        let described = describe(&path).unwrap();
        assert_eq!(
            (described.digest.as_str(), described.parameters),
            (model.digest.as_str(), filled(&metadata).values().map(Tensor::numel).sum::<usize>())
        );
        let input = init::hash_tensor("x", &[1, 5, 4, 16, 16], 1.0, 0.0);
        let step = Tensor::from_slice(&[401i64]);
        let reference = {
            let store = nn::VarStore::new(Device::Cpu);
            let network = VideoUNet::new(&at(&store, UNET_PREFIX), &metadata.spec.network);
            init::fill_by_hash(&store);
            tch::no_grad(|| network.forward(&input, &step))
        };
        let output = tch::no_grad(|| model.network.forward(&input, &step));
        let scale = reference.abs().max().double_value(&[]);
        let difference = (output - reference).abs().max().double_value(&[]) / scale;
        assert!(difference <= 10.0 * tolerance, "{kind:?}: {difference}");
    }
}

/// A weights file whose header has one entry.
fn with_header(path: &Path, name: &str, text: String) {
    let stored: Vec<_> =
        filled(&metadata()).into_iter().map(|(n, t)| (n, t.size(), bytes_of(&t, Kind::Float))).collect();
    let views = stored.iter().map(|(name, size, bytes)| {
        let shape = size.iter().map(|n| *n as usize).collect();
        (name.as_str(), TensorView::new(Dtype::F32, shape, bytes).unwrap())
    });
    let entries = HashMap::from([(name.to_owned(), text)]);
    std::fs::write(path, safetensors::serialize(views, Some(entries)).unwrap()).unwrap();
}

/// What a file of version 1 said of the model of these tests, with the share of the dynamical operator.
fn version_1(ratio: f64) -> String {
    let mut old = serde_json::to_value(spec()).unwrap();
    let fields = old.as_object_mut().unwrap();
    ["process", "missing_guess", "extra"].iter().for_each(|name| drop(fields.remove(*name)));
    fields.insert("ratio".to_owned(), ratio.into());
    fields.insert("units".to_owned(), serde_json::json!(["mm h-1"]));
    fields.insert("training".to_owned(), "none".into());
    old.to_string()
}

#[test]
fn files_of_version_1_are_read_and_written_as_version_3() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    for (ratio, process) in [(0.0, ProcessConfig::Plain {}), (0.5, ProcessConfig::Dynamical { ratio: 0.5 })] {
        with_header(&path, "squall-model-1", version_1(ratio));
        let found = describe(&path).unwrap().metadata;
        assert_eq!((&found.spec, found.training.as_str()), (&ModelSpec { process, ..spec() }, "none"));
        assert_eq!(Model::load(&path, ComputeDevice::CPU_F32).unwrap().metadata, found);
        assert_eq!(Metadata::from_json(&version_1(ratio)).unwrap(), found);
        let again = folder.path().join("new.safetensors");
        save(&again, &found, &filled(&found), Kind::Float).unwrap();
        let bytes = std::fs::read(&again).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap().keys().collect::<Vec<_>>(), ["squall-model-3"]);
        assert_eq!(describe(&again).unwrap().metadata.spec, found.spec);
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(Metadata::from_json(&json).unwrap(), found, "what inspect --json prints is what import takes");
    }
}

#[test]
fn files_of_version_2_keep_what_they_were_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    let mut old = serde_json::to_value(Metadata { units: vec!["mm h-1".to_owned()], ..metadata() }).unwrap();
    let spec = old["spec"].as_object_mut().unwrap();
    ["missing_guess", "extra"].iter().for_each(|name| drop(spec.remove(*name)));
    with_header(&path, "squall-model-2", old.to_string());
    let found = describe(&path).unwrap().metadata.spec;
    assert_eq!((found.missing_guess, found.extra.len()), (MissingGuess::Zero, 0));
    assert_eq!(found, self::spec());
}

#[test]
fn what_a_header_says_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let text = serde_json::to_string(&metadata()).unwrap();
    let plain = r#"{"kind":"plain"}"#;
    assert!(text.contains(plain), "{text}");
    for (process, reason) in [
        (r#"{"kind":"plain","ratio":0.5}"#, "unknown field `ratio`"),
        (r#"{"kind":"bridge"}"#, "unknown variant `bridge`"),
        (r#"{"kind":"dynamical","ratio":1.5}"#, "ratio 1.5 of the dynamical process lies outside 0 to 1"),
    ] {
        let text = text.replace(plain, process).replace(r#""units":[]"#, r#""units":["mm h-1"]"#);
        with_header(&path, "squall-model-3", text);
        let error = Chain(&describe(&path).unwrap_err()).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let metadata = metadata();
    let mut tensors = filled(&metadata);
    tensors.remove("model.diffusion_model.out.2.bias");
    let error = Chain(&save(&path, &metadata, &tensors, Kind::Float).unwrap_err()).to_string();
    assert!(error.contains("model.diffusion_model.out.2.bias is missing"), "{error}");
    let wrong = Metadata::of(ModelSpec { tiling: Tiling { tile: (15, 16), overlap: 0 }, ..spec() });
    let error = Chain(&save(&path, &wrong, &filled(&metadata), Kind::Float).unwrap_err()).to_string();
    assert!(error.contains("no multiple of the network's stride 2"), "{error}");
    let autoencoder = Some(AutoencoderConfig { channels: 48, ..AutoencoderConfig::tiny() });
    let latent = Metadata::of(ModelSpec { network: UNetConfig::tiny(3), autoencoder, ..spec() });
    let error = Chain(&save(&path, &latent, &filled(&metadata), Kind::Float).unwrap_err()).to_string();
    assert!(error.contains("takes frames of 2 channels, there are 1 variables"), "{error}");
    assert!(error.contains("width of 48 channels is no multiple of 32"), "{error}");
    std::fs::write(&path, b"not a model").unwrap();
    assert!(Model::load(&path, ComputeDevice::CPU_F32).is_err());
    Tensor::write_safetensors(&[("a", Tensor::from(1.0))], &path).unwrap();
    let error = Chain(&describe(&path).unwrap_err()).to_string();
    assert!(error.contains("no entry squall-model-1"), "{error}");
}

/// A checkpoint as `torch.save({"state_dict": {"a": tensor([[0, 1], [2, 3]]).T}, "epoch": object()})` writes it, made by hand.
fn checkpoint() -> Vec<u8> {
    let mut pickle =
        Vec::from(*b"\x80\x02}q\x00(X\x0a\x00\x00\x00state_dictq\x01ccollections\nOrderedDict\nq\x02)Rq\x03");
    pickle.extend(b"X\x01\x00\x00\x00aq\x04ctorch._utils\n_rebuild_tensor_v2\nq\x05((X\x07\x00\x00\x00storageq\x06");
    pickle.extend(
        b"ctorch\nFloatStorage\nq\x07X\x01\x00\x00\x000q\x08X\x03\x00\x00\x00cpuq\x09K\x04tq\x0aQK\x00K\x02K\x02\x86",
    );
    pickle.extend(b"K\x01K\x02\x86\x89ccollections\nOrderedDict\n)Rtq\x0bRq\x0cs");
    pickle.extend(b"X\x05\x00\x00\x00epochcos\nsystem\nX\x04\x00\x00\x00true\x85Ru.");
    let data: Vec<u8> = [0f32, 1.0, 2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    zip(&[("archive/data.pkl", &pickle), ("archive/data/0", &data)])
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let at = out.len() as u32;
        let sizes = [(data.len() as u32).to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        let name_length = (name.len() as u16).to_le_bytes();
        out.extend([b"PK\x03\x04".as_slice(), &[0; 14], &sizes, &name_length, &[0; 2], name.as_bytes(), data].concat());
        directory
            .extend([b"PK\x01\x02".as_slice(), &[0; 16], &sizes, &name_length, &[0; 12], &at.to_le_bytes()].concat());
        directory.extend(name.as_bytes());
    }
    let (at, count) = (out.len() as u32, (files.len() as u16).to_le_bytes());
    out.extend(&directory);
    out.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count].concat());
    out.extend([(directory.len() as u32).to_le_bytes(), at.to_le_bytes()].concat());
    out.extend([0, 0]);
    out
}

#[test]
fn checkpoints_are_read_without_running_them() {
    let tensors = pickle::state_dict(&checkpoint()).unwrap();
    assert_eq!(tensors.len(), 1);
    let expected = Tensor::from_slice(&[0f32, 2.0, 1.0, 3.0]).reshape([2, 2]);
    assert_eq!(tensors["a"], expected);
}

/// Checkpoints that PyTorch 2.11 wrote, with what training leaves in them: parameters, views of shared storages,
/// half and integer types, optimizer state, an average of the weights, and objects that mean nothing here.
#[test]
fn checkpoints_of_pytorch_are_read() {
    let written = [
        include_bytes!("../../tests/data/checkpoint.pt").as_slice(),
        include_bytes!("../../tests/data/checkpoint_protocol4.pt"),
    ];
    let count = |n: i64| Tensor::arange(n, (Kind::Float, Device::Cpu));
    let expected = [
        ("linear.weight", count(6).reshape([2, 3])),
        ("linear.bias", Tensor::from_slice(&[-1f32, 1.0])),
        ("parameter", count(6).reshape([2, 3]) * 0.5),
        ("transposed", count(6).reshape([2, 3]).tr()),
        ("transposed_parameter", count(24).reshape([2, 3, 4]).permute([2, 0, 1])),
        ("half", Tensor::from_slice(&[0.5f32, -2.0, 65504.0]).to_kind(Kind::Half)),
        ("bfloat16", Tensor::from_slice(&[1f32, -0.15625, 3e38]).to_kind(Kind::BFloat16).reshape([3, 1])),
        ("double", Tensor::from_slice(&[1.0 / 3.0])),
        ("int64", Tensor::from_slice(&[-5i64, 1 << 40])),
        ("bool", Tensor::from_slice(&[true, false])),
        ("base", count(10)),
        ("view", Tensor::from_slice(&[2f32, 4.0, 6.0])),
        ("expanded", Tensor::full([2, 2], 3.0, (Kind::Float, Device::Cpu))),
        ("scalar", Tensor::from(7.5f32)),
        ("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
    ];
    for bytes in written {
        let tensors = pickle::state_dict(bytes).unwrap();
        assert_eq!(tensors.len(), expected.len(), "{:?}", tensors.keys());
        for (name, value) in &expected {
            let found = &tensors[*name];
            assert_eq!((found.size(), found.kind()), (value.size(), value.kind()), "{name}");
            assert!(found.equal(value), "{name}");
        }
    }
}

#[test]
fn what_is_no_checkpoint_of_today_is_refused_with_its_reason() {
    let error = pickle::state_dict(include_bytes!("../../tests/data/checkpoint_legacy.pt")).unwrap_err().to_string();
    assert!(error.contains("PyTorch before 1.6; load it with PyTorch and save it again"), "{error}");
    let error = pickle::state_dict(b"a text that is long enough for the end of an archive").unwrap_err().to_string();
    assert!(error.contains("no zip archive"), "{error}");
    let pickle = b"\x80\x02}X\x05\x00\x00\x00epochK\x03s.";
    let error = pickle::state_dict(&zip(&[("archive/data.pkl", pickle)])).unwrap_err().to_string();
    assert!(error.contains("no tensors by name, only: epoch"), "{error}");
}

#[test]
fn damaged_checkpoints_are_refused() {
    let whole = include_bytes!("../../tests/data/checkpoint_protocol4.pt");
    for i in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[i] ^= 0x5a;
        let _ = pickle::state_dict(&damaged);
    }
    let whole = checkpoint();
    for length in 0..whole.len() {
        assert!(pickle::state_dict(&whole[..length]).is_err());
    }
    // Every single byte set to another value: never a panic.
    for i in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0x5a;
        let _ = pickle::state_dict(&damaged);
    }
}

#[test]
fn an_import_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.ckpt");
    std::fs::write(&source, checkpoint()).unwrap();
    let target = folder.path().join("model.safetensors");
    let error = Chain(&import(&source, &metadata(), &target, Kind::Half).unwrap_err()).to_string();
    assert!(error.contains("is missing") && !target.exists(), "{error}");
}
