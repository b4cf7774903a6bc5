//! Well-known text (WKT 1 and WKT 2), as far as a grid needs it.
//!
//! The last resort for a file that gives neither a PROJ string nor CF parameters: the projection's
//! method, its parameters, the ellipsoid and the units are found by name, everything else is passed over.

#[cfg(test)]
mod tests;

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

    /// The factor of a unit that is a child of this node: `LENGTHUNIT["metre", 1]`.
    fn factor(&self, keyword: &str) -> Option<f64> {
        let unit = self.children.iter().find(|child| child.keyword == keyword)?;
        unit.numbers.first().copied().filter(|factor| factor.is_finite())
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
    if let Some(proj) = root.find(&["EXTENSION"]).and_then(proj_extension) {
        return Ok(proj);
    }
    // What lies around it, a bound or a compound system, says nothing of the plane.
    let system = root.find(&["PROJCRS", "PROJECTEDCRS", "PROJCS"]).unwrap_or(&root);
    let mut words = match system.find(&["PROJECTION", "METHOD"]) {
        None => vec!["+proj=longlat".to_owned()],
        Some(method) => {
            let name = method.texts.first().map(|name| normal(name)).unwrap_or_default();
            if name.contains("pseudo_mercator") || name.contains("auxiliary_sphere") {
                return codes::proj_string(WEB_MERCATOR).ok_or(CrsError::UnknownCode { code: WEB_MERCATOR });
            }
            match (projection(&name), root_code(system)) {
                (Some(projection), _) => parameters(system, projection, &name).map_err(|reason| wrong(&reason))?,
                (None, Some(code)) => return codes::proj_string(code).ok_or(CrsError::UnknownCode { code }),
                (None, None) => return Err(wrong(&format!("its method `{name}` is not known"))),
            }
        }
    };
    let ellipsoid = system.find(&["SPHEROID", "ELLIPSOID"]).ok_or_else(|| wrong("it has no ellipsoid"))?;
    let metres = ellipsoid.factor("LENGTHUNIT").unwrap_or(1.0);
    match ellipsoid.numbers[..] {
        [a, 0.0, ..] => words.push(format!("+a={a} +b={a}", a = a * metres)),
        [a, rf, ..] => words.push(format!("+a={} +rf={rf}", a * metres)),
        _ => return Err(wrong("its ellipsoid has no axes")),
    }
    words.extend(datum_shift(&root, system));
    if let Some(meridian) = system.find(&["PRIMEM"]).filter(|node| node.numbers.first().is_some_and(|v| *v != 0.0)) {
        words.push(format!("+pm={}", meridian.numbers[0] * angle_factor(meridian, system)));
    }
    if let Some(metres) = plane_metres(system).filter(|metres| words[0] != "+proj=longlat" && *metres != 1.0) {
        words.push(format!("+to_meter={metres}"));
    }
    let proj = words.join(" ");
    Projection::parse(&proj)?;
    Ok(proj)
}

/// The PROJ string that GDAL puts beside what it cannot say otherwise.
fn proj_extension(node: &Node) -> Option<String> {
    let [key, proj] = &node.texts[..] else { return None };
    (key.eq_ignore_ascii_case("PROJ4") && Projection::parse(proj).is_ok()).then(|| proj.trim().to_owned())
}

/// World Mercator of web maps: a sphere that is given WGS 84 coordinates, whatever the ellipsoid of its text.
const WEB_MERCATOR: u32 = 3857;

/// The shift to WGS 84: as the text has it, or else that of its EPSG code, which WKT 2 leaves to a database.
fn datum_shift(root: &Node, system: &Node) -> Option<String> {
    if let Some(shift) = root.find(&["TOWGS84"]).filter(|node| node.numbers.len() == 3 || node.numbers.len() == 7) {
        let shift: Vec<String> = shift.numbers.iter().map(f64::to_string).collect();
        return Some(format!("+towgs84={}", shift.join(",")));
    }
    if let Some(transformation) = root.find(&["ABRIDGEDTRANSFORMATION"]) {
        return bound_shift(transformation);
    }
    let known = codes::proj_string(root_code(system)?)?;
    let shift = known.split_whitespace().find(|word| word.starts_with("+towgs84="))?;
    let (_, numbers) = shift.split_once('=')?;
    numbers.contains(|c| matches!(c, '1'..='9')).then(|| shift.to_owned())
}

/// The shift of a bound system (WKT 2): translations in metres, rotations in seconds of arc, scale as 1 + ppm.
fn bound_shift(transformation: &Node) -> Option<String> {
    let mut nodes = Vec::new();
    transformation.all("PARAMETER", &mut nodes);
    let value = |name: &str| {
        let node = nodes.iter().find(|node| node.texts.first().is_some_and(|text| normal(text).starts_with(name)));
        node.and_then(|node| node.numbers.first().copied())
    };
    let method = transformation.find(&["METHOD"])?.texts.first().map(|name| normal(name))?;
    let (x, y, z) = (value("x_axis_translation")?, value("y_axis_translation")?, value("z_axis_translation")?);
    let Some(scale) = value("scale_difference") else { return Some(format!("+towgs84={x},{y},{z}")) };
    // PROJ counts rotations as the position vector does.
    let sign = if method.contains("coordinate_frame") { -1.0 } else { 1.0 };
    let rotation = |name| value(name).map(|seconds| sign * seconds);
    let (a, b, c) = (rotation("x_axis_rotation")?, rotation("y_axis_rotation")?, rotation("z_axis_rotation")?);
    let ppm = if scale > 0.5 { ((scale - 1.0) * 1e12).round() / 1e6 } else { scale * 1e6 };
    Some(format!("+towgs84={x},{y},{z},{a},{b},{c},{ppm}"))
}

/// How many metres one of the plane is: `LENGTHUNIT` of the system or its axes (WKT 2), `UNIT` of the system (WKT 1).
fn plane_metres(root: &Node) -> Option<f64> {
    let axis =
        || root.children.iter().filter(|child| child.keyword == "AXIS").find_map(|axis| axis.factor("LENGTHUNIT"));
    root.factor("LENGTHUNIT").or_else(axis).or_else(|| root.factor("UNIT")).filter(|metres| *metres > 0.0)
}

/// How many degrees one of an angle is: by its own unit, or (WKT 1) by that of the geographic system.
fn angle_factor(node: &Node, root: &Node) -> f64 {
    let geographic = || root.find(&["GEOGCS"]).and_then(|system| system.factor("UNIT"));
    let radians = node.factor("ANGLEUNIT").or_else(geographic).unwrap_or(DEGREE);
    // Texts give a degree with more or fewer digits.
    if (radians / DEGREE - 1.0).abs() < 1e-9 { 1.0 } else { radians.to_degrees() }
}

const DEGREE: f64 = std::f64::consts::PI / 180.0;

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
        m if m.contains("stereographic") && (m.contains("oblique") || m.contains("double")) => "sterea",
        m if m.contains("stereographic") => "stere",
        m if m.contains("lambert_azimuthal_equal_area") => "laea",
        m if m.contains("lambert_con") => "lcc",
        m if m.contains("transverse_mercator") && m.contains("south") => return None,
        m if m.contains("transverse_mercator") => "tmerc",
        m if m.contains("oblique_mercator")
            && (m.contains("swiss") || m.contains("azimuth") || m.contains("variant_b")) =>
        {
            "somerc"
        }
        m if m.contains("albers") => "aea",
        m if m.contains("azimuthal_equidistant") => "aeqd",
        m if m.contains("cylindrical_equal_area") => "cea",
        m if m.contains("equidistant_conic") => "eqdc",
        m if m.contains("equidistant_cylindrical") || m.contains("plate_carree") => "eqc",
        m if m.contains("mercator") => "merc",
        m if m.contains("geostationary") => "geos",
        m if m.contains("gnomonic") => "gnom",
        m if m.contains("orthographic") => "ortho",
        m if m.contains("cassini") => "cass",
        m if m.contains("sinusoidal") => "sinu",
        m if m.contains("robinson") => "robin",
        m if m.contains("mollweide") => "moll",
        m if m.contains("polyconic") => "poly",
        _ => return None,
    })
}

fn parameters(root: &Node, projection: &str, method: &str) -> Result<Vec<String>, String> {
    let mut nodes = Vec::new();
    root.all("PARAMETER", &mut nodes);
    let mut words = vec![format!("+proj={projection}")];
    let conic = matches!(projection, "lcc" | "aea" | "eqdc");
    let plane_metres = root.factor("UNIT").filter(|metres| *metres > 0.0).unwrap_or(1.0);
    for node in nodes {
        let (Some(name), Some(value)) = (node.texts.first().map(|name| normal(name)), node.numbers.first()) else {
            continue;
        };
        let polar = projection == "cea"
            || (projection == "stere" && (method.contains("polar") || name == "standard_parallel_1"));
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
            n if n.contains("azimuth") && projection == "somerc" && (value - 90.0).abs() > 1e-6 => {
                return Err(format!("only an azimuth of 90 degrees is supported, its azimuth is {value}"));
            }
            // WKT 1 calls the parallel of true scale of a polar system its origin.
            "latitude_of_origin" if method == "polar_stereographic" => "lat_ts",
            n if n.contains("satellite") && n.contains("height") => "h",
            n if n.contains("longitude") || n == "central_meridian" => "lon_0",
            n if n.contains("latitude") => "lat_0",
            _ => continue,
        };
        let factor = match key {
            "x_0" | "y_0" | "h" => node.factor("LENGTHUNIT").unwrap_or(plane_metres),
            "k_0" => 1.0,
            _ => angle_factor(node, root),
        };
        words.push(format!("+{key}={}", value * factor));
    }
    let has = |words: &[String], key: &str| words.iter().any(|word| word.starts_with(key));
    if projection == "stere" && method.contains("polar") && !has(&words, "+lat_0=") {
        let south = words.iter().any(|word| word.starts_with("+lat_ts=-"));
        words.push(format!("+lat_0={}", if south { -90 } else { 90 }));
    }
    if projection == "geos" {
        words.push(format!("+sweep={}", if method.contains("sweep_x") { "x" } else { "y" }));
    }
    if conic && !has(&words, "+lat_1=") {
        let origin = words.iter().find_map(|word| word.strip_prefix("+lat_0=")).unwrap_or("0").to_owned();
        words.push(format!("+lat_1={origin} +lat_2={origin}"));
    }
    Ok(words)
}
