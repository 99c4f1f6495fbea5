//! Plain Rust types in place of the value encoding's own, on behalf of generated code.
//!
//! Whoever binds a component's functions by type needs `Vec<u8>` where the encoding has `ByteList`: the binding knows the
//! one, and serde would write it as an array of numbers. A field of such a type is written *as* another one:
//! `#[serde(with = "As::<(Same, ByteList)>")]` stands at a field `(u32, Vec<u8>)`, and the bytes are those of
//! `(u32, ByteList)`.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trellis_protocol::value::{ByteList, ByteSlice};

/// For `#[serde(with)]`: a field that is written as `How`, and read so.
#[derive(Debug)]
pub struct As<How>(PhantomData<How>);

impl<How> As<How> {
    /// Writes the field.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<T, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        How: WriteAs<T>,
    {
        How::write(value, serializer)
    }

    /// Reads the field.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, T, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>
    where
        How: ReadAs<'de, T>,
    {
        How::read(deserializer)
    }
}

/// A form in which a `T` is written.
pub trait WriteAs<T> {
    /// Writes the value in this form.
    ///
    /// # Errors
    /// The serializer's.
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A form in which a `T` is read.
pub trait ReadAs<'de, T> {
    /// Reads a value from this form.
    ///
    /// # Errors
    /// The deserializer's.
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>;
}

/// A type's own form.
#[derive(Debug)]
pub struct Same;

impl<T: Serialize> WriteAs<T> for Same {
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> ReadAs<'de, T> for Same {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

impl WriteAs<Vec<u8>> for ByteList {
    fn write<S: Serializer>(value: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        ByteSlice(value).serialize(serializer)
    }
}

impl<'de> ReadAs<'de, Vec<u8>> for ByteList {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Self::deserialize(deserializer).map(Vec::from)
    }
}

/// A value that serde writes in another form.
struct Written<'a, T, How>(&'a T, PhantomData<How>);

impl<'a, T, How> Written<'a, T, How> {
    fn of(value: &'a T) -> Self {
        Self(value, PhantomData)
    }
}

impl<T, How: WriteAs<T>> Serialize for Written<'_, T, How> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        How::write(self.0, serializer)
    }
}

/// A value that serde reads in another form.
struct Read<T, How>(T, PhantomData<How>);

impl<'de, T, How: ReadAs<'de, T>> Deserialize<'de> for Read<T, How> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        How::read(deserializer).map(|value| Self(value, PhantomData))
    }
}

impl<T, How: WriteAs<T>> WriteAs<Vec<T>> for Vec<How> {
    fn write<S: Serializer>(value: &Vec<T>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(Written::<T, How>::of))
    }
}

impl<'de, T, How: ReadAs<'de, T>> ReadAs<'de, Vec<T>> for Vec<How> {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        let read = Vec::<Read<T, How>>::deserialize(deserializer)?;
        Ok(read.into_iter().map(|read| read.0).collect())
    }
}

impl<T, How: WriteAs<T>> WriteAs<Option<T>> for Option<How> {
    fn write<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        let written = value.as_ref().map(Written::<T, How>::of);
        written.serialize(serializer)
    }
}

impl<'de, T, How: ReadAs<'de, T>> ReadAs<'de, Option<T>> for Option<How> {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let read = Option::<Read<T, How>>::deserialize(deserializer)?;
        Ok(read.map(|read| read.0))
    }
}

impl<T, E, HowT: WriteAs<T>, HowE: WriteAs<E>> WriteAs<Result<T, E>> for Result<HowT, HowE> {
    fn write<S: Serializer>(value: &Result<T, E>, serializer: S) -> Result<S::Ok, S::Error> {
        let written = value
            .as_ref()
            .map(Written::<T, HowT>::of)
            .map_err(Written::<E, HowE>::of);
        written.serialize(serializer)
    }
}

impl<'de, T, E, HowT: ReadAs<'de, T>, HowE: ReadAs<'de, E>> ReadAs<'de, Result<T, E>>
    for Result<HowT, HowE>
{
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Result<T, E>, D::Error> {
        let read = Result::<Read<T, HowT>, Read<E, HowE>>::deserialize(deserializer)?;
        Ok(read.map(|read| read.0).map_err(|read| read.0))
    }
}

macro_rules! tuples {
    ($(($($how:ident $ty:ident $at:tt),+))*) => {$(
        impl<$($ty, $how: WriteAs<$ty>),+> WriteAs<($($ty,)+)> for ($($how,)+) {
            fn write<Z: Serializer>(value: &($($ty,)+), serializer: Z) -> Result<Z::Ok, Z::Error> {
                ($(Written::<$ty, $how>::of(&value.$at),)+).serialize(serializer)
            }
        }

        impl<'de, $($ty, $how: ReadAs<'de, $ty>),+> ReadAs<'de, ($($ty,)+)> for ($($how,)+) {
            fn read<Z: Deserializer<'de>>(deserializer: Z) -> Result<($($ty,)+), Z::Error> {
                let read = <($(Read<$ty, $how>,)+)>::deserialize(deserializer)?;
                Ok(($(read.$at.0,)+))
            }
        }
    )*};
}

// As many elements as anything has that stands beside bytes; a longer tuple does not compile.
tuples! {
    (A0 T0 0)
    (A0 T0 0, A1 T1 1)
    (A0 T0 0, A1 T1 1, A2 T2 2)
    (A0 T0 0, A1 T1 1, A2 T2 2, A3 T3 3)
    (A0 T0 0, A1 T1 1, A2 T2 2, A3 T3 3, A4 T4 4)
    (A0 T0 0, A1 T1 1, A2 T2 2, A3 T3 3, A4 T4 4, A5 T5 5)
    (A0 T0 0, A1 T1 1, A2 T2 2, A3 T3 3, A4 T4 4, A5 T5 5, A6 T6 6)
    (A0 T0 0, A1 T1 1, A2 T2 2, A3 T3 3, A4 T4 4, A5 T5 5, A6 T6 6, A7 T7 7)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use trellis_protocol::value;

    use super::*;

    /// Both are the same bytes, and each reads what the other wrote.
    fn same<How, T, Own>(plain: T, own: &Own)
    where
        How: WriteAs<T> + for<'de> ReadAs<'de, T>,
        T: PartialEq + Debug,
        Own: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let bytes = value::encode(own).unwrap();
        assert_eq!(
            value::encode(&Written::<T, How>::of(&plain)).unwrap(),
            bytes
        );
        assert_eq!(value::decode::<Read<T, How>>(&bytes).unwrap().0, plain);
    }

    #[test]
    fn bytes_are_binary_however_deep_they_are() {
        let own = |bytes: &[u8]| ByteList::from(bytes);
        same::<ByteList, _, _>(vec![], &own(b""));
        same::<ByteList, _, _>(vec![1, 200], &own(&[1, 200]));
        same::<Vec<ByteList>, _, _>(vec![vec![], vec![7]], &vec![own(b""), own(&[7])]);
        type Deep = Vec<(Option<Same>, Result<ByteList, Same>)>;
        type Plain = (Option<u32>, Result<Vec<u8>, String>);
        let plain: Vec<Plain> = vec![(None, Ok(vec![0x80; 300])), (Some(1), Err("no".into()))];
        let deep = vec![
            (None::<u32>, Ok(own(&[0x80; 300]))),
            (Some(1), Err("no".to_owned())),
        ];
        same::<Deep, _, _>(plain, &deep);
        same::<Option<(ByteList,)>, _, _>(Some((vec![1],)), &Some((own(&[1]),)));
    }

    #[test]
    fn what_is_no_binary_is_no_bytes() {
        for other in [
            value::encode(&vec![1_u8, 2]).unwrap(),
            value::encode("ab").unwrap(),
        ] {
            assert!(value::decode::<Read<Vec<u8>, ByteList>>(&other).is_err());
        }
    }
}
