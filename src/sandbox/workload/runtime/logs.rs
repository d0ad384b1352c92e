//! Container logs: one file per start of a container, each line with its time in front.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncRead, AsyncSeekExt, AsyncWriteExt, BufReader},
    sync::{Mutex, watch},
};

use crate::{Error, Kind, Result, sandbox::api::pods::LogRequest};

/// Longer lines are cut into several, as container runtimes do.
const LONGEST_LINE: usize = 16 << 10;

/// The log of one start of a container.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Mutex<File>,
    progress: watch::Sender<Progress>,
}

/// Bytes written, and whether more may come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    bytes: u64,
    closed: bool,
}

impl Log {
    /// A new, empty log.
    pub async fn create(path: &Path) -> Result<Arc<Self>> {
        let file = File::create(path).await.map_err(|error| failed(path, error))?;
        Ok(Arc::new(Self { path: path.to_owned(), file: Mutex::new(file), progress: watch::Sender::default() }))
    }

    /// Copies what the process writes until its end.
    pub async fn collect(&self, output: impl AsyncRead + Unpin) {
        if let Err(error) = self.pump(output).await {
            tracing::warn!(%error, path = %self.path.display(), "a container's log is incomplete");
        }
    }

    async fn pump(&self, output: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            let chunk = output.fill_buf().await?;
            if chunk.is_empty() {
                if !line.is_empty() {
                    self.write(&line).await?;
                }
                return Ok(());
            }
            let room = LONGEST_LINE - line.len();
            let (taken, ended) = match chunk.iter().position(|byte| *byte == b'\n') {
                Some(at) if at <= room => (at, true),
                _ => (chunk.len().min(room), false),
            };
            line.extend_from_slice(&chunk[..taken]);
            output.consume(taken + usize::from(ended));
            if ended || line.len() >= LONGEST_LINE {
                self.write(&line).await?;
                line.clear();
            }
        }
    }

    /// Adds one line.
    pub async fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut entry = format!("{:.9} ", Timestamp::now()).into_bytes();
        entry.extend_from_slice(line);
        entry.push(b'\n');
        let mut file = self.file.lock().await;
        file.write_all(&entry).await?;
        file.flush().await?;
        self.progress.send_modify(|progress| progress.bytes += entry.len() as u64);
        Ok(())
    }

    /// Nothing more will come: those who follow it are done.
    pub fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// What the request asks for.
    pub async fn read(self: Arc<Self>, request: LogRequest) -> Result<BoxStream<'static, Result<Bytes>>> {
        let mut file = File::open(&self.path).await.map_err(|error| failed(&self.path, error))?;
        let since = request
            .since_seconds
            .and_then(|seconds| Timestamp::now().checked_sub(SignedDuration::from_secs(seconds.try_into().ok()?)).ok());
        let begin = match request.tail_lines {
            Some(lines) => tail(&mut file, lines).await.map_err(|error| failed(&self.path, error))?,
            None => 0,
        };
        file.seek(SeekFrom::Start(begin)).await.map_err(|error| failed(&self.path, error))?;
        let reader = Reader {
            file: BufReader::new(file),
            changes: self.progress.subscribe(),
            position: begin,
            follow: request.follow,
            timestamps: request.timestamps,
            since,
            path: self.path.clone(),
        };
        Ok(stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|line| (line, reader))) })
            .boxed())
    }
}

/// Where the last `lines` lines begin.
async fn tail(file: &mut File, lines: usize) -> io::Result<u64> {
    let mut starts = VecDeque::with_capacity(lines.min(1024));
    let mut reader = BufReader::new(file);
    let mut position = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).await? as u64;
        if read == 0 {
            return Ok(starts.front().copied().filter(|_| lines > 0).unwrap_or(position));
        }
        if starts.len() == lines {
            starts.pop_front();
        }
        if lines > 0 {
            starts.push_back(position);
        }
        position += read;
    }
}

struct Reader {
    file: BufReader<File>,
    changes: watch::Receiver<Progress>,
    position: u64,
    follow: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    path: PathBuf,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let progress = *self.changes.borrow_and_update();
            // Only whole entries are counted, so nothing half-written is read.
            if self.position < progress.bytes {
                let mut entry = Vec::new();
                let read = self.file.read_until(b'\n', &mut entry).await.map_err(|error| failed(&self.path, error))?;
                self.position += read as u64;
                if let Some(line) = self.wanted(&entry) {
                    return Ok(Some(line));
                }
                continue;
            }
            if !self.follow || progress.closed || self.changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn wanted(&self, entry: &[u8]) -> Option<Bytes> {
        let space = entry.iter().position(|byte| *byte == b' ')?;
        if let Some(since) = self.since {
            let time: Timestamp = std::str::from_utf8(&entry[..space]).ok()?.parse().ok()?;
            if time < since {
                return None;
            }
        }
        Some(Bytes::copy_from_slice(if self.timestamps { entry } else { &entry[space + 1..] }))
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("log file {}", path.display())).source(error)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn log(text: &[u8]) -> (tempfile::TempDir, Arc<Log>) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(&folder.path().join("c-0.log")).await.unwrap();
        log.collect(text).await;
        (folder, log)
    }

    async fn read(log: &Arc<Log>, request: LogRequest) -> String {
        let chunks: Vec<Bytes> = log.clone().read(request).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn lines_come_back_as_they_were_written() {
        let (_keep, log) = log(b"one\n\ntwo words\nlast without end").await;
        assert_eq!(read(&log, LogRequest::default()).await, "one\n\ntwo words\nlast without end\n");
        let tail = LogRequest { tail_lines: Some(2), ..LogRequest::default() };
        assert_eq!(read(&log, tail).await, "two words\nlast without end\n");
        assert_eq!(read(&log, LogRequest { tail_lines: Some(0), ..LogRequest::default() }).await, "");
        assert_eq!(read(&log, LogRequest { tail_lines: Some(99), ..LogRequest::default() }).await.lines().count(), 4);
        let timed = read(&log, LogRequest { timestamps: true, ..LogRequest::default() }).await;
        assert!(timed.lines().all(|line| line.split_once(' ').unwrap().0.parse::<Timestamp>().is_ok()), "{timed}");
        assert_eq!(
            read(&log, LogRequest { since_seconds: Some(60), ..LogRequest::default() }).await.lines().count(),
            4
        );
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let (_keep, log) = log(&vec![b'x'; LONGEST_LINE * 2 + 10]).await;
        let lengths: Vec<_> = read(&log, LogRequest::default()).await.lines().map(str::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, LONGEST_LINE, 10]);
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_appended_and_ends_with_the_log() {
        let (_keep, log) = log(b"first\n").await;
        let mut lines = log.clone().read(LogRequest { follow: true, ..LogRequest::default() }).await.unwrap();
        assert_eq!(lines.try_next().await.unwrap().unwrap(), "first\n");
        let writer = log.clone();
        let later = tokio::spawn(async move {
            writer.write(b"second").await.unwrap();
            writer.close();
        });
        assert_eq!(lines.try_next().await.unwrap().unwrap(), "second\n");
        assert!(lines.try_next().await.unwrap().is_none());
        later.await.unwrap();
    }
}
