//! Where the server is, and what the environment says about it.

use crate::client::Options;
use crate::error::Error;
use tonic::transport::Uri;

/// Reads `http://host:port`, `https://host:port` or `host:port`, and says whether it is the second.
///
/// # Errors
/// [`Error::Invalid`] for anything else, which does not repeat it: there may be a password in it.
pub(crate) fn address(text: &str) -> Result<(Uri, bool), Error> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Option<Uri> = whole.parse().ok();
    let read = uri.and_then(|uri| {
        let https = uri.scheme_str() == Some("https");
        let plain = uri.path() == "/" && uri.query().is_none() && !whole.contains(['@', '#']);
        let place = uri.authority().is_some_and(|a| !a.host().is_empty() && (a.as_str() == a.host() || a.port_u16().is_some_and(|port| port > 0)));
        ((https || uri.scheme_str() == Some("http")) && plain && place).then_some((uri, https))
    });
    read.ok_or_else(|| {
        let allowed = "http://host:port, https://host:port or host:port; a token goes into the options";
        Error::Invalid(format!("the server's address makes no sense; allowed: {allowed}"))
    })
}

/// The environment of a process, with the names that the command line knows.
pub(crate) struct Environment<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// What the file holds that a variable names.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = |path: String| std::fs::read(&path).map_err(|e| Error::Invalid(format!("{name} names {path}, which can't be read: {e}")));
        self.get(name).map(read).transpose()
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> String {
        self.get("GPU_SHOPPER_URL").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned())
    }

    /// The options with what was not given in them; certificates only where they are of use.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a file can't be read, or a certificate has no key.
    pub(crate) fn fill(&self, mut options: Options, https: bool) -> Result<Options, Error> {
        if options.token.is_none() {
            options.token = self.get("GPU_SHOPPER_TOKEN");
        }
        if options.token.is_none() {
            let file = self.file("GPU_SHOPPER_TOKEN_FILE")?;
            options.token = file.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        }
        if self.get("GPU_SHOPPER_CLIENT_CERT").is_some() != self.get("GPU_SHOPPER_CLIENT_KEY").is_some() {
            return Err(Error::Invalid("GPU_SHOPPER_CLIENT_CERT and GPU_SHOPPER_CLIENT_KEY go together: set both, or none".to_owned()));
        }
        if https && options.ca_pem.is_none() {
            options.ca_pem = self.file("GPU_SHOPPER_CA_CERT")?;
        }
        if https && options.identity_pem.is_none() {
            options.identity_pem = self.file("GPU_SHOPPER_CLIENT_CERT")?.zip(self.file("GPU_SHOPPER_CLIENT_KEY")?);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme_are_read_and_others_refused_without_telling_them() {
        for (text, url, tls) in [
            ("gpu_host:8080", "http://gpu_host:8080/", false),
            ("HTTP://[::1]", "http://[::1]/", false),
            ("https://gpu.example/", "https://gpu.example/", true),
        ] {
            let (read, https) = address(text).unwrap();
            assert_eq!((read.to_string().as_str(), https), (url, tls));
        }
        for bad in
            ["", "ftp://x", "http://", "http://u:secret@x:1", "u:secret@x", "http://a b", "http://x/api", "x?a=secret", "x#a", "x:99999", "x:0", "x:"]
        {
            let error = address(bad).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)) && !error.to_string().contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_not_given_comes_from_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for (name, text) in [("token", "gs_file\n"), ("ca", "authority"), ("cert", "own"), ("key", "secret")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let files = |name: &str| match name {
            "GPU_SHOPPER_TOKEN_FILE" => Some(at("token")),
            "GPU_SHOPPER_CA_CERT" => Some(at("ca")),
            "GPU_SHOPPER_CLIENT_CERT" => Some(at("cert")),
            "GPU_SHOPPER_CLIENT_KEY" => Some(at("key")),
            _ => None,
        };
        let filled = Environment(&files).fill(Options::default(), true).unwrap();
        assert_eq!((filled.token.as_deref(), filled.ca_pem.as_deref()), (Some("gs_file"), Some(&b"authority"[..])));
        assert_eq!(filled.identity_pem, Some((b"own".to_vec(), b"secret".to_vec())));
        let clear = Environment(&files).fill(Options::default(), false).unwrap();
        assert!(clear.ca_pem.is_none() && clear.identity_pem.is_none());
        let given = Options { token: Some("gs_given".into()), ca_pem: Some(b"mine".to_vec()), ..Options::default() };
        let filled = Environment(&files).fill(given, true).unwrap();
        assert_eq!((filled.token.as_deref(), filled.ca_pem.as_deref()), (Some("gs_given"), Some(&b"mine"[..])));
        let named = |name: &str| (name == "GPU_SHOPPER_TOKEN" || name == "GPU_SHOPPER_URL").then(|| "told".to_owned());
        assert_eq!(Environment(&named).fill(Options::default(), true).unwrap().token.as_deref(), Some("told"));
        assert_eq!((Environment(&named).url(), Environment(&|_| Some(String::new())).url()), ("told".into(), "http://127.0.0.1:8080".into()));
        let nobody = Options { token: Some(String::new()), ..Options::default() };
        assert_eq!(Environment(&named).fill(nobody, true).unwrap().token.as_deref(), Some(""));
        let half = |name: &str| (name == "GPU_SHOPPER_CLIENT_KEY").then(|| at("key"));
        assert!(Environment(&half).fill(Options::default(), true).unwrap_err().to_string().contains("go together"));
        let missing = |name: &str| (name == "GPU_SHOPPER_CA_CERT").then(|| at("none"));
        let error = Environment(&missing).fill(Options::default(), true).unwrap_err();
        assert!(error.to_string().starts_with("GPU_SHOPPER_CA_CERT names ") && error.to_string().contains("none"), "{error}");
    }
}
