//! What to do about an error of the client that no retry mends.

use rdkafka::error::RDKafkaErrorCode as Code;

/// Which setting to look at; nothing where the error says enough by itself.
///
/// OpenSSL tells librdkafka that it does not trust a certificate, and not why: the two causes are named.
pub(super) fn advice(code: Option<Code>, reason: &str) -> Option<&'static str> {
    match code? {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            Some("look at sasl.username, sasl.password and sasl.mechanism in log.properties")
        }
        Code::SSL if reason.contains("certificate verify failed") || reason.contains("expired") => Some(
            "the broker's certificate is not trusted: either ssl.ca.location in log.properties does not hold the one \
             that signed it, or it has expired and must be renewed on the broker",
        ),
        Code::SSL => Some("look at security.protocol and the settings ssl.* in log.properties"),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::GroupAuthorizationFailed => {
            Some("the user of log.properties lacks the rights: add ACLs for it on the broker")
        }
        _ => None,
    }
}

/// The reason, and what to do.
pub(super) fn with_advice(code: Option<Code>, reason: &str) -> String {
    match advice(code, reason) {
        Some(advice) => format!("{reason}; {advice}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_mend_it_are_named() {
        let said = |code, reason| with_advice(Some(code), reason);
        assert!(said(Code::Authentication, "invalid credentials").contains("sasl.password"));
        let verify = said(Code::SSL, "SSL handshake failed: certificate verify failed");
        assert!(verify.contains("ssl.ca.location") && verify.contains("expired"), "{verify}");
        assert_eq!(said(Code::AllBrokersDown, "1/1 brokers are down"), "1/1 brokers are down");
        assert_eq!(with_advice(None, "x"), "x");
    }
}
