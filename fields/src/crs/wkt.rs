//! Well-known text (WKT 1 and WKT 2), as far as a grid needs it.
//!
//! The last resort for a file that gives neither a PROJ string nor CF parameters: the projection's
//! method, its parameters and the ellipsoid are found by name, everything else is passed over.

use super::{CrsError, Projection, codes};

/// A node `KEYWORD["text", 1.0, CHILD[...]]`.
#[derive(Debug, Default)]
struct Node {
    keyword: String,
    texts: Vec<String>,
    numbers: Vec<f64>,
    children: Vec<Node>,
}

impl Node {
    /// The first node with one of the keywords, depth first.
    fn find(&self, keywords: &[&str]) -> Option<&Node> {
        if keywords.contains(&self.keyword.as_str()) {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(keywords))
    }

    fn all<'a>(&'a self, keyword: &str, out: &mut Vec<&'a Node>) {
        if self.keyword == keyword {
            out.push(self);
        }
        self.children.iter().for_each(|child| child.all(keyword, out));
    }
}

/// Depth at which a text is given up: real ones have about 8 levels.
const MAX_DEPTH: usize = 32;

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn node(&mut self, depth: usize) -> Option<Node> {
        let end = self.rest.find(['[', '('])?;
        let keyword = self.rest[..end].trim().to_ascii_uppercase();
        if depth > MAX_DEPTH || keyword.is_empty() || !keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        self.rest = &self.rest[end + 1..];
        let mut node = Node { keyword, ..Node::default() };
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next()? {
                ']' | ')' => {
                    self.rest = &self.rest[1..];
                    return Some(node);
                }
                ',' => self.rest = &self.rest[1..],
                '"' => {
                    let end = self.rest[1..].find('"')? + 1;
                    node.texts.push(self.rest[1..end].to_owned());
                    self.rest = &self.rest[end + 1..];
                }
                _ => {
                    let end = self.rest.find([',', '[', ']', '(', ')'])?;
                    if self.rest[end..].starts_with(['[', '(']) {
                        node.children.push(self.node(depth + 1)?);
                    } else {
                        match self.rest[..end].trim().parse() {
                            Ok(number) => node.numbers.push(number),
                            Err(_) => node.texts.push(self.rest[..end].trim().to_owned()),
                        }
                        self.rest = &self.rest[end..];
                    }
                }
            }
        }
    }
}

/// The PROJ string of a well-known text.
///
/// ```
/// let wkt = r#"PROJCS["x",GEOGCS["WGS 84",DATUM["d",SPHEROID["WGS 84",6378137,298.257223563]]],
///     PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",55],
///     PARAMETER["longitude_of_center",10],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]"#;
/// let proj = squall_fields::crs::wkt::proj_string(wkt)?;
/// assert!(proj.contains("+proj=laea") && proj.contains("+lat_0=55"));
/// # Ok::<(), squall_fields::crs::CrsError>(())
/// ```
///
/// # Errors
/// [`CrsError::Syntax`] if the text cannot be read or the method is not known.
pub fn proj_string(text: &str) -> Result<String, CrsError> {
    let wrong = |reason: &str| CrsError::Syntax { text: text.chars().take(80).collect(), reason: reason.to_owned() };
    let root = Parser { rest: text }.node(0).ok_or_else(|| wrong("it is no well-known text"))?;
    let mut words = match root.find(&["PROJECTION", "METHOD"]) {
        None => vec!["+proj=longlat".to_owned()],
        Some(method) => {
            let name = method.texts.first().map(|name| normal(name)).unwrap_or_default();
            match (projection(&name), root_code(&root)) {
                (Some(projection), _) => parameters(&root, projection, &name),
                (None, Some(code)) => return codes::proj_string(code).ok_or(CrsError::UnknownCode { code }),
                (None, None) => return Err(wrong(&format!("its method `{name}` is not known"))),
            }
        }
    };
    let ellipsoid = root.find(&["SPHEROID", "ELLIPSOID"]).ok_or_else(|| wrong("it has no ellipsoid"))?;
    match ellipsoid.numbers[..] {
        [a, 0.0, ..] => words.push(format!("+a={a} +b={a}")),
        [a, rf, ..] => words.push(format!("+a={a} +rf={rf}")),
        _ => return Err(wrong("its ellipsoid has no axes")),
    }
    if let Some(shift) = root.find(&["TOWGS84"]).filter(|node| node.numbers.len() == 3 || node.numbers.len() == 7) {
        let shift: Vec<String> = shift.numbers.iter().map(f64::to_string).collect();
        words.push(format!("+towgs84={}", shift.join(",")));
    }
    let proj = words.join(" ");
    Projection::parse(&proj)?;
    Ok(proj)
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace([' ', '-'], "_").replace(['(', ')'], "")
}

/// The code of the outermost node.
fn root_code(root: &Node) -> Option<u32> {
    let id = root.children.iter().rev().find(|child| matches!(child.keyword.as_str(), "AUTHORITY" | "ID"))?;
    id.numbers.first().map(|code| *code as u32).or_else(|| id.texts.get(1)?.parse().ok())
}

fn projection(method: &str) -> Option<&'static str> {
    Some(match method {
        m if m.contains("stereographic") && m.contains("oblique") => "sterea",
        m if m.contains("stereographic") => "stere",
        m if m.contains("lambert_azimuthal_equal_area") => "laea",
        m if m.contains("lambert_con") => "lcc",
        m if m.contains("transverse_mercator") => "tmerc",
        m if m.contains("oblique_mercator")
            && (m.contains("swiss") || m.contains("azimuth") || m.contains("variant_b")) =>
        {
            "somerc"
        }
        m if m.contains("albers") => "aea",
        m if m.contains("azimuthal_equidistant") => "aeqd",
        m if m.contains("mercator") => "merc",
        _ => return None,
    })
}

fn parameters(root: &Node, projection: &str, method: &str) -> Vec<String> {
    let mut nodes = Vec::new();
    root.all("PARAMETER", &mut nodes);
    let mut words = vec![format!("+proj={projection}")];
    let conic = matches!(projection, "lcc" | "aea");
    for node in nodes {
        let (Some(name), Some(value)) = (node.texts.first().map(|name| normal(name)), node.numbers.first()) else {
            continue;
        };
        let polar = projection == "stere" && (method.contains("polar") || name == "standard_parallel_1");
        let key = match name.as_str() {
            n if n.contains("easting") => "x_0",
            n if n.contains("northing") => "y_0",
            n if n.contains("scale_factor") => "k_0",
            n if n.contains("1st_standard_parallel") || n == "standard_parallel_1" => {
                if polar {
                    "lat_ts"
                } else {
                    "lat_1"
                }
            }
            n if n.contains("2nd_standard_parallel") || n == "standard_parallel_2" => "lat_2",
            n if n.contains("standard_parallel") => "lat_ts",
            // WKT 1 calls the parallel of true scale of a polar system its origin.
            "latitude_of_origin" if method == "polar_stereographic" => "lat_ts",
            n if n.contains("longitude") || n == "central_meridian" => "lon_0",
            n if n.contains("latitude") => "lat_0",
            _ => continue,
        };
        words.push(format!("+{key}={value}"));
    }
    let has = |words: &[String], key: &str| words.iter().any(|word| word.starts_with(key));
    if projection == "stere" && method.contains("polar") && !has(&words, "+lat_0=") {
        let south = words.iter().any(|word| word.starts_with("+lat_ts=-"));
        words.push(format!("+lat_0={}", if south { -90 } else { 90 }));
    }
    if conic && !has(&words, "+lat_1=") {
        let origin = words.iter().find_map(|word| word.strip_prefix("+lat_0=")).unwrap_or("0").to_owned();
        words.push(format!("+lat_1={origin} +lat_2={origin}"));
    }
    words
}
