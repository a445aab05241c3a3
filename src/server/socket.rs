//! A connection's bytes, plain or through TLS, without waiting.
//!
//! Both kinds are used alike: wait until something may be read or written, then try. Always: what
//! [`Socket::try_write`] took is on its way to the peer only when [`Socket::is_flushed`] says so.

use std::io::{self, Read, Write};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustls::ServerConnection;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

use crate::limits;

#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    socket: TcpStream,
    tls: ServerConnection,
    /// Plain bytes are there that nobody has taken.
    decrypted: bool,
}

impl Socket {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }

    pub(super) fn tls(socket: TcpStream, mut tls: ServerConnection) -> Self {
        // One piece at a time: the engine's window counts what is not written.
        tls.set_buffer_limit(Some(limits::READ_BYTES));
        Self::Tls(Box::new(Tls { socket, tls, decrypted: false }))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        self.tcp().set_nodelay(true)
    }

    /// The peer's certificate, where one was asked for, given and verified.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.tls.peer_certificates()?.first().map(AsRef::as_ref),
        }
    }

    /// Waits until [`Socket::try_read`] may give something.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(tls) if tls.decrypted => Ok(()),
            _ => self.tcp().readable().await,
        }
    }

    /// Waits until [`Socket::try_write`] or [`Socket::try_flush`] may take something.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Whether everything that was taken has gone to the system.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => !tls.tls.wants_write(),
        }
    }

    /// Reads behind what `into` holds; 0 at the end of what comes.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now; those of the system and of TLS.
    pub(super) fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => {
                // Where a socket gives less than there is room for, nothing more is there. Unlike
                // `try_read_buf` this knows that, and saves a system call for most messages.
                let read = pin!(unconstrained(socket.read_buf(into)));
                match read.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(read) => read,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
            Self::Tls(tls) => tls.try_read(into),
        }
    }

    /// Takes some of `bytes`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be taken now; those of the system and of TLS.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Hands the system what was taken.
    ///
    /// # Errors
    /// `WouldBlock` when it does not take all of it now; those of the system.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Writes all of it, waiting as long as that takes.
    pub(super) async fn write_all(&mut self, bytes: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => drop(bytes.split_to(count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) => return Err(e),
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Err(error) = self.try_flush() {
            match error.kind() {
                io::ErrorKind::WouldBlock => self.writable().await?,
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            tls.tls.send_close_notify();
        }
        self.flush().await?;
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        };
        tokio::io::AsyncWriteExt::shutdown(socket).await
    }

    /// Reads what still comes and throws it away, up to so many bytes.
    pub(super) async fn drain(&mut self, mut most: u64) -> io::Result<()> {
        let mut rest = vec![0; limits::READ_BYTES];
        let socket = self.tcp();
        while most > 0 {
            socket.readable().await?;
            match socket.try_read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(count) => most = most.saturating_sub(count as u64),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Tls {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut ended = false;
        loop {
            let mut chunk = [0; 4096];
            let mut count = 0;
            let plain = loop {
                match self.tls.reader().read(&mut chunk) {
                    Ok(0) => break Ok(0),
                    Ok(more) => {
                        into.extend_from_slice(&chunk[..more]);
                        count += more;
                        if count >= limits::READ_BYTES {
                            self.decrypted = true;
                            return Ok(count);
                        }
                    }
                    Err(e) => break Err(e),
                }
            };
            self.decrypted = false;
            if count > 0 {
                return Ok(count);
            }
            match plain {
                // An end without the alert that announces it is an end all the same: every frame
                // says where it ends.
                Ok(_) => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && ended => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            ended = self.tls.read_tls(&mut Edge(&self.socket))? == 0;
            let step = self.tls.process_new_packets();
            // What the handshake or an alert has to say goes out at once, where it can.
            match self.try_flush() {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock && step.is_ok() => return Err(e),
                _ => {}
            }
            step.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let count = self.tls.writer().write(bytes)?;
        match self.try_flush() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            // Before the handshake is over nothing is taken.
            _ if count == 0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut Edge(&self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// What the system has, read and written without waiting.
struct Edge<'a>(&'a TcpStream);

impl Read for Edge<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Edge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
