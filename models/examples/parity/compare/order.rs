//! The order in which the reference lists its parameters, needed for arrays with one number a parameter.

/// Modules in their order of registration; a spatial and a temporal transformer block differ.
const MODULES: [&str; 20] = [
    "time_embed",
    "input_blocks",
    "middle_block",
    "output_blocks",
    "out",
    "in_layers",
    "emb_layers",
    "out_layers",
    "skip_connection",
    "norm",
    "proj_in",
    "transformer_blocks",
    "proj_out",
    "time_stack",
    "time_pos_embed",
    "time_mixer",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
];
const SPATIAL: [&str; 6] = ["attn1", "ff", "attn2", "norm1", "norm2", "norm3"];
const TEMPORAL: [&str; 8] = ["norm_in", "ff_in", "attn1", "ff", "norm2", "attn2", "norm1", "norm3"];

/// Sorts by this to get that order.
pub(crate) fn key(name: &str) -> Vec<usize> {
    let temporal = name.contains("time_stack");
    let rank = |part: &str| {
        let block: &[&str] = if temporal { &TEMPORAL } else { &SPATIAL };
        let find = |list: &[&str]| list.iter().position(|m| *m == part);
        part.parse().ok().or_else(|| find(block)).or_else(|| find(&MODULES)).unwrap_or((part == "bias").into())
    };
    name.split('.').map(rank).collect()
}
