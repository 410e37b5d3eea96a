//! A JSON writer that is nothing but a byte buffer: strings, integers, fixed-point numbers, dates and ids are appended
//! in place, no tree is built.
//!
//! Numbers are fixed point (`value` and how many of its digits are decimals), so no float is ever formatted.

use almoner_model::Date;
use base64::Engine as _;

/// A line of JSON in the making.
#[derive(Default, Debug)]
pub struct Json {
    bytes: Vec<u8>,
    /// Writes characters outside ASCII as `\uXXXX`, as some exporters do.
    ascii: bool,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Json {
    /// An empty line whose characters outside ASCII will be escaped if `ascii`.
    pub const fn new(ascii: bool) -> Self {
        Self { bytes: Vec::new(), ascii }
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts again.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Text that is JSON already.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// Characters inside a string, escaped (RFC 8259 §7).
    pub fn inner(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '"' => self.bytes.extend_from_slice(b"\\\""),
                '\\' => self.bytes.extend_from_slice(b"\\\\"),
                '\n' => self.bytes.extend_from_slice(b"\\n"),
                c if u32::from(c) < 0x20 || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.bytes.extend_from_slice(b"\\u");
                        for shift in [12, 8, 4, 0] {
                            self.bytes.push(HEX[usize::from(*unit >> shift & 15)]);
                        }
                    }
                }
                c => self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes.push(b'"');
        self.inner(text);
        self.bytes.push(b'"');
        self
    }

    /// An integer.
    pub fn number(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.bytes.push(b'-');
        }
        self.digits(value.unsigned_abs(), 1)
    }

    fn digits(&mut self, mut value: u64, at_least: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while value > 0 {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        let at = at.min(digits.len() - at_least);
        self.bytes.extend_from_slice(&digits[at..]);
        self
    }

    /// `value / 10^decimals`.
    pub fn fixed(&mut self, value: i64, decimals: u8) -> &mut Self {
        if decimals == 0 {
            return self.number(value);
        }
        let unit = 10_u64.pow(u32::from(decimals));
        if value < 0 {
            self.bytes.push(b'-');
        }
        self.digits(value.unsigned_abs() / unit, 1);
        self.bytes.push(b'.');
        self.digits(value.unsigned_abs() % unit, usize::from(decimals))
    }

    /// `YYYY-MM-DD`, without quotes.
    pub fn date(&mut self, date: Date) -> &mut Self {
        let (year, month, day) = civil(date);
        self.digits(year, 4);
        self.bytes.push(b'-');
        self.digits(month, 2);
        self.bytes.push(b'-');
        self.digits(day, 2)
    }

    /// `YYYY-MM-DDThh:mm:ss` and the zone, without quotes.
    pub fn time(&mut self, date: Date, seconds: u32, zone: &str) -> &mut Self {
        self.date(date).raw("T").clock(seconds).raw(zone)
    }

    /// `hh:mm:ss`.
    pub fn clock(&mut self, seconds: u32) -> &mut Self {
        self.digits(u64::from(seconds / 3600), 2);
        self.bytes.push(b':');
        self.digits(u64::from(seconds / 60 % 60), 2);
        self.bytes.push(b':');
        self.digits(u64::from(seconds % 60), 2)
    }

    /// 128 bits in the form of a UUID (version and variant bits are not set: these are invented ids).
    pub fn uuid(&mut self, id: u128) -> &mut Self {
        for (at, byte) in id.to_be_bytes().into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                self.bytes.push(b'-');
            }
            self.bytes.push(HEX[usize::from(byte >> 4)]);
            self.bytes.push(HEX[usize::from(byte & 15)]);
        }
        self
    }

    /// Base64 (RFC 4648 §4) of `data`, without quotes.
    pub fn base64(&mut self, data: &[u8]) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.resize(start + data.len().div_ceil(3) * 4, 0);
        if let Ok(written) =
            base64::engine::general_purpose::STANDARD.encode_slice(data, &mut self.bytes[start..])
        {
            self.bytes.truncate(start + written);
        }
        self
    }
}

/// Year, month and day (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`), years 1 to 9999.
fn civil(date: Date) -> (u64, u64, u64) {
    let z = i64::from(date.days()) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year.unsigned_abs(), month.unsigned_abs(), day.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut json = Json::new(true);
        json.raw("{\"a\":").text("é \"x\"\\\n\u{1f600}").raw(",\"b\":").fixed(-705, 2).raw(",\"c\":");
        json.fixed(65, 1).raw(",\"d\":").number(i64::MIN).raw("}");
        let value: serde_json::Value = serde_json::from_slice(json.bytes()).unwrap();
        assert_eq!(value["a"], "é \"x\"\\\n\u{1f600}");
        assert_eq!(value["b"], -7.05);
        assert_eq!(value["c"], 6.5);
        assert_eq!(value["d"], i64::MIN);
        assert!(json.bytes().is_ascii());
    }

    #[test]
    fn dates_equal_those_of_the_model() {
        for days in (-60_000..40_000).step_by(37) {
            let date = Date::from_days(days);
            let mut json = Json::default();
            json.date(date);
            assert_eq!(json.bytes(), date.to_string().as_bytes());
        }
    }

    #[test]
    fn ids_and_base64_have_their_published_form() {
        let mut json = Json::default();
        json.uuid(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff).raw(" ").base64(b"foob").raw(" ").time(
            Date::from_ymd(2024, 2, 29).unwrap(),
            3661,
            "Z",
        );
        assert_eq!(json.bytes(), b"00112233-4455-6677-8899-aabbccddeeff Zm9vYg== 2024-02-29T01:01:01Z");
    }
}
