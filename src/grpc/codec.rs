//! Protobuf on the wire, with buffers that fit the message. The usual codec begins every answer, a stream's too, with eight KiB
//! and lets them grow by copying; a stream then holds them as long as it lives, mostly silent. Here a buffer is as large as the
//! message that is put into it.
//!
//! `build.rs` names this codec to the generated code, of servers and of clients.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// What a buffer begins with, bytes: room for the head of a frame and a small message.
const SMALL: usize = 256;
/// Messages that are ready at once are sent together up to so many bytes.
const TOGETHER: usize = 32 * 1024;

/// The codec; see the module's header.
#[derive(Debug)]
pub struct FittingCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for FittingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(SMALL, TOGETHER)
}

impl<T, U> Codec for FittingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = FittingEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FittingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

/// Its encoding half.
#[derive(Debug)]
pub struct FittingEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for FittingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
