//! What `config/default.toml` says about each setting: the long help and the reference of settings have no other text.

use super::layers::DEFAULTS;

/// The comment above a setting's built-in value, as one paragraph. Empty for a setting that is not there.
pub fn explanation(key: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in DEFAULTS.lines() {
        match line.strip_prefix('#') {
            Some(comment) => lines.push(comment.trim()),
            None if line.split(" = ").next() == Some(key) => return lines.join(" "),
            None => lines.clear(),
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::explanation;
    use crate::settings::SETTINGS;

    #[test]
    fn every_setting_is_explained_in_sentences_and_without_the_names_of_sections() {
        for setting in SETTINGS {
            let text = explanation(setting.key);
            assert!(text.len() > 20 && text.ends_with('.'), "config/default.toml: {}: {text:?}", setting.key);
            assert!(!text.contains("---") && !text.contains('\n'), "{text}");
        }
        assert_eq!(explanation("max_in"), "");
        assert!(explanation("connect_timeout").starts_with("Maximum time to connect"));
    }
}
