//! Records of delimited text (RFC 4180), one after the other, in bounded memory.
//!
//! Serves [`super::tables`]. A quote that is never closed would make one record of all that follows. So a record is given
//! up when it grows beyond the limit, when the text ends inside its quotes, or when it reaches over line ends and does not
//! have the header's number of fields: its first line is told as broken, and reading goes on with the next line. No line is
//! swallowed without a word.
//!
//! What it does not do: say what a field means.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;

use crate::mapping::outcome::{Rule, rule};

/// A record has at most so many fields; more is no table.
const FIELDS_MAX: usize = 1 << 16;

/// What comes next.
pub enum Next {
    /// A record, in [`Records::fields`], that begins at this line.
    Record(u64),
    /// A line that is no record, and why.
    Broken(u64, Rule),
    /// Nothing more.
    End,
}

/// Reads records.
pub struct Records<R> {
    source: R,
    core: csv_core::Reader,
    /// Bytes that were read as part of a record that was given up, and are read again.
    again: Vec<u8>,
    again_from: usize,
    /// The bytes of the record, as they came.
    raw: Vec<u8>,
    text: Vec<u8>,
    ends: Vec<usize>,
    text_len: usize,
    fields: usize,
    /// The line at which the next bytes stand, from 1.
    line: u64,
    bytes_max: usize,
    /// Fields of the header, once it is read.
    expected: Option<usize>,
}

/// How a record ended.
enum Ended {
    Record,
    /// By the end of the text.
    Last,
    TooLong,
    NoMore,
}

impl<R: BufRead> Records<R> {
    /// Records of `source`, none longer than `bytes_max`.
    pub fn new(source: R, delimiter: u8, bytes_max: usize) -> Self {
        Self {
            source,
            core: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            again: Vec::new(),
            again_from: 0,
            raw: Vec::new(),
            text: vec![0; 4096],
            ends: vec![0; 128],
            text_len: 0,
            fields: 0,
            line: 1,
            bytes_max,
            expected: None,
        }
    }

    /// The text of all fields of the record, and where each ends.
    pub fn fields(&self) -> (&[u8], &[usize]) {
        (&self.text[..self.text_len], &self.ends[..self.fields])
    }

    /// The next record. The first one that is whole is the header, and says how many fields the others have.
    ///
    /// # Errors
    /// What the source fails with.
    pub fn next(&mut self) -> io::Result<Next> {
        let ended = self.record()?;
        let leading = self.raw.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
        self.line += line_ends(&self.raw[..leading]);
        let start = self.line;
        let body = &self.raw[leading..];
        let inner = line_ends(body.trim_ascii_end());
        let broken = match ended {
            Ended::NoMore => return Ok(Next::End),
            Ended::TooLong => Some(rule::LINE_TOO_LONG),
            Ended::Record | Ended::Last if inner == 0 => None,
            Ended::Last if self.is_open() => Some(rule::UNBALANCED_QUOTE),
            Ended::Record | Ended::Last => {
                self.expected.filter(|n| *n != self.fields).map(|_| rule::UNBALANCED_QUOTE)
            }
        };
        let Some(rule) = broken else {
            self.line += line_ends(body);
            self.expected.get_or_insert(self.fields);
            return Ok(Next::Record(start));
        };
        self.give_up(leading)?;
        Ok(Next::Broken(start, rule))
    }

    /// Whether the record that the text ended with has a quote too many.
    fn is_open(&self) -> bool {
        memchr::memchr_iter(b'"', &self.raw).count() % 2 == 1
    }

    /// Reads one record, blank lines before it included.
    fn record(&mut self) -> io::Result<Ended> {
        self.raw.clear();
        (self.text_len, self.fields) = (0, 0);
        loop {
            let repeated = self.again_from < self.again.len();
            let input = match repeated {
                true => &self.again[self.again_from..],
                false => self.source.fill_buf()?,
            };
            let (result, read, written, ended) =
                self.core.read_record(input, &mut self.text[self.text_len..], &mut self.ends[self.fields..]);
            let at_end = input.is_empty();
            self.raw.extend_from_slice(&input[..read]);
            match repeated {
                true => self.again_from += read,
                false => self.source.consume(read),
            }
            self.text_len += written;
            self.fields += ended;
            match result {
                ReadRecordResult::Record if at_end => return Ok(Ended::Last),
                ReadRecordResult::Record => {
                    self.take_line_feed()?;
                    return Ok(Ended::Record);
                }
                ReadRecordResult::End => return Ok(Ended::NoMore),
                _ if self.raw.len() > self.bytes_max => return Ok(Ended::TooLong),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() < FIELDS_MAX => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                ReadRecordResult::OutputEndsFull => return Ok(Ended::TooLong),
            }
        }
    }

    /// A record ends at the CR of a CRLF; the LF belongs to its line.
    fn take_line_feed(&mut self) -> io::Result<()> {
        if !self.raw.ends_with(b"\r") {
            return Ok(());
        }
        if self.again_from < self.again.len() {
            if self.again[self.again_from] == b'\n' {
                self.again_from += 1;
                self.raw.push(b'\n');
            }
        } else if self.source.fill_buf()?.first() == Some(&b'\n') {
            self.source.consume(1);
            self.raw.push(b'\n');
        }
        Ok(())
    }

    /// Drops the first line of the record, and puts back what was read of the others. Of a line that is longer than what
    /// was read, the rest is skipped.
    fn give_up(&mut self, leading: usize) -> io::Result<()> {
        self.core.reset();
        self.line += 1;
        match memchr::memchr(b'\n', &self.raw[leading..]) {
            Some(end) => {
                let mut again = self.raw.split_off(leading + end + 1);
                again.extend_from_slice(&self.again[self.again_from..]);
                (self.again, self.again_from) = (again, 0);
            }
            None => self.skip_line()?,
        }
        Ok(())
    }

    fn skip_line(&mut self) -> io::Result<()> {
        let rest = &self.again[self.again_from..];
        if let Some(end) = memchr::memchr(b'\n', rest) {
            self.again_from += end + 1;
            return Ok(());
        }
        self.again_from = self.again.len();
        loop {
            let input = self.source.fill_buf()?;
            if input.is_empty() {
                return Ok(());
            }
            let end = memchr::memchr(b'\n', input);
            let length = end.map_or(input.len(), |end| end + 1);
            self.source.consume(length);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record as its line and fields, every broken line as its number and rule.
    fn read(text: &str, bytes_max: usize) -> Vec<String> {
        // A buffer of a few bytes, so that records reach over its end.
        let source = io::BufReader::with_capacity(7, text.as_bytes());
        let mut records = Records::new(source, b',', bytes_max);
        let mut out = Vec::new();
        loop {
            match records.next().expect("reads") {
                Next::End => return out,
                Next::Broken(line, rule) => out.push(format!("{line} {rule}")),
                Next::Record(line) => {
                    let (text, ends) = records.fields();
                    let mut from = 0;
                    let fields: Vec<_> = ends
                        .iter()
                        .map(|end| {
                            let field = std::str::from_utf8(&text[from..*end]).expect("UTF-8");
                            from = *end;
                            field
                        })
                        .collect();
                    out.push(format!("{line} {}", fields.join("|")));
                }
            }
        }
    }

    #[test]
    fn records_are_read_as_they_are_meant() {
        let text = "a,b\r\n1,\"x\r\ny\"\r\n\r\n2,\"say \"\"no\"\"\"\n3,5\" tube\n4,";
        let expected = ["1 a|b", "2 1|x\r\ny", "5 2|say \"no\"", "6 3|5\" tube", "7 4|"];
        assert_eq!(read(text, 1000), expected);
        assert_eq!(read("\u{feff}a,b\n1,2\n", 1000), ["1 a|b", "2 1|2"]);
        assert!(read("", 1000).is_empty());
    }

    #[test]
    fn a_stray_quote_breaks_its_own_line_only() {
        let stray = "a,b\n1,\"x\n2,y\n3,z\n";
        assert_eq!(read(stray, 1000), ["1 a|b", "2 unbalanced-quote", "3 2|y", "4 3|z"]);
        let two = "a,b,c\n1,\"x,1\n2,y,2\n3\",z,3\n4,w,4\n";
        let expected = ["1 a|b|c", "2 unbalanced-quote", "3 2|y|2", "4 3\"|z|3", "5 4|w|4"];
        assert_eq!(read(two, 1000), expected, "the line with the second quote stands as it is");
        let beyond = format!("a,b\n1,\"x\n{}", "2,y\n".repeat(100));
        let found = read(&beyond, 64);
        assert_eq!((found[1].as_str(), found.len()), ("2 line-too-long", 102));
        assert_eq!(found[101], "102 2|y");
    }

    #[test]
    fn a_line_beyond_the_limit_is_skipped_to_its_end() {
        let long = format!("a,b\n1,{}\n2,y\n", "x".repeat(500));
        assert_eq!(read(&long, 64), ["1 a|b", "2 line-too-long", "3 2|y"]);
        let header = format!("{}\n1,2\n", "x".repeat(500));
        assert_eq!(read(&header, 64)[0], "1 line-too-long");
    }
}
