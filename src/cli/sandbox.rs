//! `lhrun sandbox`.

use std::path::PathBuf;

use super::{Failure, Setting};

/// The embedded cluster on its own, for kubectl and S3 clients
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Up(Up),
}

/// Start an embedded cluster, print where it is, and keep it until Ctrl-C
///
/// Prints the kubeconfig, the S3 endpoint and its keys as lines to paste into a shell, once the cluster is ready. Ctrl-C
/// stops every process of the cluster and removes its files; a folder named with --folder keeps its bucket.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  lhrun sandbox up
  lhrun sandbox up --folder ~/sandbox --api-port 6443 --s3-port 9000
  lhrun sandbox up -o json")]
pub struct Up {
    /// Keep bucket, keys and kubeconfig here instead of in a temporary folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Port of the Kubernetes API on 127.0.0.1; without it any free one
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    api_port: u16,
    /// Port of the S3 endpoint on 127.0.0.1; without it any free one
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    s3_port: u16,
}

#[cfg(not(feature = "sandbox"))]
pub fn run(_: &Setting, _: &Command) -> Result<u8, Failure> {
    Err(super::place::missing().into())
}

#[cfg(feature = "sandbox")]
pub fn run(setting: &Setting, command: &Command) -> Result<u8, Failure> {
    use crate::{Kind, sandbox::SandboxOptions};

    let Command::Up(up) = command;
    let options = SandboxOptions { folder: up.folder.clone(), api_port: up.api_port, s3_port: up.s3_port };
    let sandbox = super::place::start(setting, options)?;
    if setting.is_for_programs() {
        setting.result(&shown::data(&sandbox))?;
    } else {
        setting.terminal.result(&shown::exports(&sandbox));
    }
    let cancel = setting.interrupts.token();
    setting.runtime.block_on(cancel.cancelled());
    super::place::stop(setting, &sandbox)?;
    Ok(Kind::Cancelled.exit_code())
}

#[cfg(feature = "sandbox")]
mod shown {
    use secrecy::ExposeSecret;

    use crate::sandbox::Sandbox;

    /// Where the cluster is, with its keys: they are what was asked for, and they open nothing else.
    pub fn data(sandbox: &Sandbox) -> serde_json::Value {
        let s3 = sandbox.s3();
        serde_json::json!({
            "kubeconfig": sandbox.kubeconfig(),
            "s3": {
                "endpoint": s3.endpoint,
                "region": s3.region,
                "bucket": s3.bucket,
                "access_key": s3.access_key,
                "secret_key": s3.secret_key.expose_secret(),
                "target_url": s3.target_url(),
            },
        })
    }

    /// The same as lines to paste into a shell.
    pub fn exports(sandbox: &Sandbox) -> String {
        let (s3, kubeconfig) = (sandbox.s3(), sandbox.kubeconfig().display().to_string());
        let variables = [
            ("KUBECONFIG", kubeconfig.as_str()),
            ("AWS_ENDPOINT_URL", &s3.endpoint),
            ("AWS_REGION", &s3.region),
            ("AWS_ACCESS_KEY_ID", &s3.access_key),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key.expose_secret()),
        ];
        let exports: Vec<_> =
            variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value))).collect();
        format!(
            "# An embedded cluster with Longhorn is ready, until Ctrl-C. In another shell:\n{}\n\
             # Bucket {}, Longhorn's backup target {}",
            exports.join("\n"),
            s3.bucket,
            s3.target_url()
        )
    }

    /// The text as one word for a shell.
    fn quoted(text: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-@%+".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            return text.to_owned();
        }
        format!("'{}'", text.replace('\'', r"'\''"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_word_stays_one_word_for_the_shell() {
            for text in ["/tmp/a-b.c", "", "it's", "a b", "$(reboot)", "`x`", "a;b"] {
                let printed = format!("printf %s {}", quoted(text));
                let output = std::process::Command::new("sh").args(["-c", &printed]).output().unwrap();
                assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
            }
        }
    }
}
