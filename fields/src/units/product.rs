//! Products of powers of base units, as text: the grammar of UDUNITS as far as files use it.
//!
//! One reading differs from UDUNITS on purpose. `mm/5min` would be (mm/5) min there; whoever writes it means an amount
//! of five minutes, so a number before a unit of time belongs to that unit where it is glued to it or divided by.

/// A number times powers of metre, kilogram and second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) factor: f64,
    pub(super) kilogram: i32,
    pub(super) metre: i32,
    pub(super) second: i32,
    /// Whether a length is given in a unit in which depths of water are: millimetres, centimetres, inches, litres.
    pub(super) depth: bool,
}

/// Depth of parentheses at which a text is given up.
const MAX_DEPTH: usize = 8;
/// Greatest power of a unit: reflectivity in `mm6 m-3` is not read as a unit of its own.
const MAX_POWER: i32 = 4;

impl Product {
    const ONE: Self = Self::number(1.0);

    const fn number(factor: f64) -> Self {
        Self { factor, kilogram: 0, metre: 0, second: 0, depth: false }
    }

    /// Reads a whole text; `None` if it is no unit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text };
        let product = parser.product(0)?;
        parser.rest.trim().is_empty().then_some(product)
    }

    fn times(self, other: Self) -> Self {
        Self {
            factor: self.factor * other.factor,
            kilogram: self.kilogram + other.kilogram,
            metre: self.metre + other.metre,
            second: self.second + other.second,
            depth: self.depth | other.depth,
        }
    }

    fn power(self, power: i32) -> Self {
        Self {
            factor: self.factor.powi(power),
            kilogram: self.kilogram * power,
            metre: self.metre * power,
            second: self.second * power,
            depth: self.depth,
        }
    }

    const fn is_time(&self) -> bool {
        self.second == 1 && self.metre == 0 && self.kilogram == 0
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Factors beside each other, multiplied or divided from left to right, up to the end or a closing parenthesis.
    fn product(&mut self, depth: usize) -> Option<Product> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (mut product, mut divided, mut factors) = (Product::ONE, false, 0);
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some(')') => return (factors > 0 && !divided).then_some(product),
                Some('/') if divided => return None,
                Some('/') => divided = self.skip("/"),
                Some('.') if !self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => _ = self.skip("."),
                Some('*') => _ = self.skip("*"),
                Some('\u{b7}') => _ = self.skip("\u{b7}"),
                _ if self.rest.to_ascii_lowercase().starts_with("per ") => {
                    self.rest = &self.rest[4..];
                    divided = true;
                }
                _ => {
                    let factor = self.factor(divided, depth)?;
                    product = product.times(if divided { factor.power(-1) } else { factor });
                    (divided, factors) = (false, factors + 1);
                }
            }
        }
    }

    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn factor(&mut self, divided: bool, depth: usize) -> Option<Product> {
        if self.skip("(") {
            let inner = self.product(depth + 1)?;
            return if self.skip(")") { Some(inner.power(self.exponent()?)) } else { None };
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number(divided);
        }
        let unit = self.unit()?;
        Some(unit.power(self.exponent()?))
    }

    /// A number, with the unit of time behind it where it belongs to that.
    fn number(&mut self, divided: bool) -> Option<Product> {
        let digits = |text: &str| text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let mut end = digits(self.rest);
        if let Some(exponent) = self.rest[end..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let len = unsigned.bytes().take_while(u8::is_ascii_digit).count();
            if len > 0 {
                end = self.rest.len() - unsigned.len() + len;
            }
        }
        let number: f64 = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        if self.rest.starts_with('^') {
            return Some(Product::number(number.powi(self.exponent()?)));
        }
        let (glued, before) = (self.rest.starts_with(char::is_alphabetic), self.rest);
        self.rest = self.rest.trim_start();
        match self.unit().filter(|unit| unit.is_time() && (glued || divided)) {
            Some(unit) => Some(Product::number(number).times(unit).power(self.exponent()?)),
            None => {
                self.rest = before;
                Some(Product::number(number))
            }
        }
    }

    fn unit(&mut self) -> Option<Product> {
        let end = self.rest.find(|c: char| !(c.is_alphabetic() || c == '_')).unwrap_or(self.rest.len());
        let unit = base(&self.rest[..end])?;
        self.rest = &self.rest[end..];
        Some(unit)
    }

    /// `-2`, `^-2`, `**-2`, `2` or the same in superscript; 1 if there is none, `None` if it is no power.
    fn exponent(&mut self) -> Option<i32> {
        let marked = self.skip("^") || self.skip("**");
        let negative = self.skip("-") || self.skip("\u{207b}") || self.skip("\u{2212}");
        let signed = negative || self.skip("+") || marked;
        let mut power = None;
        while let Some(digit) = self.rest.chars().next().and_then(digit) {
            power = Some(10 * power.unwrap_or(0) + digit).filter(|power| *power <= MAX_POWER);
            power?;
            self.rest = &self.rest[self.rest.chars().next().map_or(0, char::len_utf8)..];
        }
        match power {
            Some(power) => Some(if negative { -power } else { power }),
            None => (!signed).then_some(1),
        }
    }
}

/// An ordinary or a superscript digit.
fn digit(c: char) -> Option<i32> {
    const SUPERSCRIPTS: [char; 10] = [
        '\u{2070}', '\u{b9}', '\u{b2}', '\u{b3}', '\u{2074}', '\u{2075}', '\u{2076}', '\u{2077}', '\u{2078}',
        '\u{2079}',
    ];
    c.to_digit(10).map(|d| d as i32).or_else(|| SUPERSCRIPTS.iter().position(|s| *s == c).map(|d| d as i32))
}

fn base(name: &str) -> Option<Product> {
    let length = |metres| Product { factor: metres, metre: 1, depth: metres < 0.1, ..Product::ONE };
    let time = |seconds| Product { factor: seconds, second: 1, ..Product::ONE };
    let mass = |kilograms| Product { factor: kilograms, kilogram: 1, ..Product::ONE };
    Some(match name {
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => length(0.001),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => length(0.01),
        "m" | "meter" | "meters" | "metre" | "metres" => length(1.0),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => length(1000.0),
        "in" | "inch" | "inches" => length(0.0254),
        "mi" | "mile" | "miles" => length(1609.344),
        "l" | "L" | "liter" | "liters" | "litre" | "litres" => {
            Product { factor: 0.001, metre: 3, depth: true, ..Product::ONE }
        }
        "s" | "sec" | "secs" | "second" | "seconds" => time(1.0),
        "min" | "mins" | "minute" | "minutes" => time(60.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => time(3600.0),
        "d" | "day" | "days" => time(86_400.0),
        "kg" | "kilogram" | "kilograms" => mass(1.0),
        "g" | "gram" | "grams" => mass(0.001),
        _ => return None,
    })
}
