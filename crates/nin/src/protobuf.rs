//! The wire format of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding>): a message is a row of fields, each a
//! key (the field's number and the kind of its value) and a value.

/// The kinds of values: a number in as few bytes as it needs, eight bytes, bytes with their length before them, four bytes.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// A message that is being written, field after field.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn push_key(&mut self, field: u64, kind: u64) {
        self.push_varint(field << 3 | kind);
    }

    /// With a whole number; a negative one is written as its two's complement of 64 bits, as `int64` is.
    #[must_use]
    pub(crate) fn integer(mut self, field: u64, value: i64) -> Self {
        self.push_key(field, VARINT);
        self.push_varint(value.cast_unsigned());
        self
    }

    /// With a number of 32 bits.
    #[must_use]
    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.push_key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// With a number of 64 bits.
    #[must_use]
    pub(crate) fn double(mut self, field: u64, value: f64) -> Self {
        self.push_key(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// With text, bytes, packed numbers or another message.
    #[must_use]
    pub(crate) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.push_key(field, BYTES);
        self.push_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// With a field for each of some things.
    #[must_use]
    pub(crate) fn each<V>(
        self,
        values: impl IntoIterator<Item = V>,
        field: impl Fn(Self, V) -> Self,
    ) -> Self {
        values.into_iter().fold(self, field)
    }

    /// The bytes of the message.
    #[must_use]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The value of a field that is read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Integer(i64),
    Float(f32),
    Bytes(&'a [u8]),
}

/// The fields of a message that is read, by their numbers. One that is not there is as protobuf has it: 0, or empty.
#[derive(Debug, PartialEq)]
pub(crate) struct Fields<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Fields<'a> {
    /// # Errors
    /// The place where the bytes are no message.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, String> {
        let (mut rest, mut fields) = (message, Vec::new());
        while !rest.is_empty() {
            let place = message.len() - rest.len();
            fields.push(next(&mut rest).ok_or_else(|| format!("no field of a message at byte {place}"))?);
        }
        Ok(Self(fields))
    }

    fn all(&self, field: u64) -> impl Iterator<Item = Value<'a>> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|&(_, value)| value)
    }

    /// Each value of a field of bytes.
    pub(crate) fn each_bytes(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.all(field).filter_map(|value| if let Value::Bytes(bytes) = value { Some(bytes) } else { None })
    }

    /// The value of a field of bytes.
    pub(crate) fn bytes(&self, field: u64) -> &'a [u8] {
        self.each_bytes(field).last().unwrap_or_default()
    }

    /// Each value of a field of text.
    ///
    /// # Errors
    /// The place where it is no UTF-8.
    pub(crate) fn texts(&self, field: u64) -> Result<Vec<String>, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string());
        self.each_bytes(field).map(text).collect()
    }

    /// The value of a field of text.
    ///
    /// # Errors
    /// As [`Fields::texts`].
    pub(crate) fn text(&self, field: u64) -> Result<String, String> {
        Ok(self.texts(field)?.pop().unwrap_or_default())
    }

    /// Each value of a field of whole numbers, that are not packed.
    pub(crate) fn integers(&self, field: u64) -> Vec<i64> {
        let integer = |value| if let Value::Integer(integer) = value { Some(integer) } else { None };
        self.all(field).filter_map(integer).collect()
    }

    /// The value of a field of whole numbers.
    pub(crate) fn integer(&self, field: u64) -> i64 {
        self.integers(field).pop().unwrap_or_default()
    }

    /// The value of a field of numbers of 32 bits.
    pub(crate) fn float(&self, field: u64) -> f32 {
        let float = |value| if let Value::Float(float) = value { Some(float) } else { None };
        self.all(field).filter_map(float).last().unwrap_or_default()
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        VARINT => Value::Integer(varint(rest)?.cast_signed()),
        BYTES => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(rest.split_off(..length)?)
        }
        FOUR_BYTES => Value::Float(f32::from_le_bytes(*rest.split_off(..4)?.as_array()?)),
        _ => return None,
    };
    Some((key >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(*rest.split_off_first()?);
        let part = byte & 0x7f;
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's documentation.
    #[test]
    fn bytes_are_those_of_the_documentation() {
        assert_eq!(Message::default().integer(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, "testing").into_bytes();
        assert_eq!(text, [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        let inner = Message::default().integer(1, 150);
        assert_eq!(Message::default().bytes(3, inner).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let minus_two = Message::default().integer(1, -2).into_bytes();
        assert_eq!(minus_two[1..], [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Message::default().float(1, 1.0).into_bytes(), [0x0d, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().double(1, 1.0).into_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }

    #[test]
    fn what_is_written_reads_back_and_a_part_of_it_does_not() {
        let integers = [0, 1, 127, 128, i64::MAX, -1, i64::MIN];
        let message = Message::default()
            .each(integers, |message, value| message.integer(3, value))
            .float(200, -0.5)
            .bytes(4, "ab");
        let bytes = message.into_bytes();
        let fields = Fields::read(&bytes).unwrap();
        assert_eq!(fields.integers(3), integers);
        assert_eq!(
            (fields.integer(3), fields.float(200), fields.text(4)),
            (i64::MIN, -0.5, Ok("ab".to_owned()))
        );
        assert_eq!((fields.integer(4), fields.float(3), fields.bytes(5)), (0, 0.0, &[][..]), "not there");
        let error = Fields::read(&bytes[..bytes.len() - 1]).unwrap_err();
        assert_eq!(error, format!("no field of a message at byte {}", bytes.len() - 4));
        // Nine bytes of seven bits and one that has more than the bit that is left; a kind that there is not.
        let too_large = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        for broken in [&too_large[..], &[0x0c]] {
            assert_eq!(Fields::read(broken).unwrap_err(), "no field of a message at byte 0");
        }
        assert!(Fields::read(&[0x0a, 1, 0xff]).unwrap().text(1).is_err(), "no UTF-8");
    }
}
