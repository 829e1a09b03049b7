//! Stripe's form encoding: `a[b]=1&list[]=x&items[0][price]=y` as a tree.

/// A parameter as it was sent, before anybody knows its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    /// Keys in the order they came. The key of `a[]=x` is empty.
    Branch(Vec<(String, Node)>),
}

/// Limit: deeper nesting than any parameter has; keeps recursion small.
const DEPTH_MAX: usize = 12;

/// Decodes query and body. Pairs that are not of the form `name[part]...` keep their name as one key.
pub(super) fn parse(texts: [&[u8]; 2]) -> Node {
    let mut root = Vec::new();
    for text in texts {
        for (key, value) in form_urlencoded::parse(text) {
            insert(&mut root, &segments(&key), value.into_owned());
        }
    }
    Node::Branch(root)
}

fn segments(key: &str) -> Vec<&str> {
    let Some((first, rest)) = key.split_once('[').filter(|_| key.ends_with(']')) else { return vec![key] };
    let parts: Vec<&str> = std::iter::once(first).chain(rest[..rest.len() - 1].split("][")).collect();
    if parts.len() > DEPTH_MAX { vec![key] } else { parts }
}

fn insert(branch: &mut Vec<(String, Node)>, path: &[&str], value: String) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        // `a[]=x&a[]=y` are two elements; `a=x&a=y` is the last one.
        match branch.iter_mut().find(|(name, _)| name == key && !key.is_empty()) {
            Some((_, node)) => *node = Node::Text(value),
            None => branch.push(((*key).to_owned(), Node::Text(value))),
        }
        return;
    }
    let fits = |(name, node): &&mut (String, Node)| name == key && takes(node, key.is_empty(), rest);
    if let Some((_, Node::Branch(inner))) = branch.iter_mut().rev().find(fits) {
        insert(inner, rest, value);
        return;
    }
    let mut inner = Vec::new();
    insert(&mut inner, rest, value);
    branch.push(((*key).to_owned(), Node::Branch(inner)));
}

/// `items[][a]=1&items[][b]=2&items[][a]=3` are two elements: a repeated name opens the next one.
fn takes(node: &Node, is_list: bool, rest: &[&str]) -> bool {
    match node {
        Node::Text(_) => false,
        Node::Branch(inner) => !is_list || rest.len() > 1 || inner.iter().all(|(name, _)| name != rest[0]),
    }
}

/// Decoded name and value pairs in a fixed order: what "the same parameters" means for a repeated request.
pub(super) fn sorted_pairs(body: &[u8]) -> Vec<String> {
    let mut pairs: Vec<String> =
        form_urlencoded::parse(body).map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Node {
        Node::Text(value.to_owned())
    }

    fn branch<const N: usize>(items: [(&str, Node); N]) -> Node {
        Node::Branch(items.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
    }

    #[test]
    fn brackets_become_a_tree() {
        let tree = parse([b"", b"a[b][c]=1&a[b][d]=2&l[]=x&l[]=y&i[0][p]=7&e%5B%5D=%C3%A9&plain="]);
        let expected = branch([
            ("a", branch([("b", branch([("c", text("1")), ("d", text("2"))]))])),
            ("l", branch([("", text("x")), ("", text("y"))])),
            ("i", branch([("0", branch([("p", text("7"))]))])),
            ("e", branch([("", text("é"))])),
            ("plain", text("")),
        ]);
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_repeated_name_opens_the_next_element() {
        let tree = parse([b"", b"i[][p]=1&i[][q]=2&i[][p]=3"]);
        let first = branch([("p", text("1")), ("q", text("2"))]);
        assert_eq!(tree, branch([("i", branch([("", first), ("", branch([("p", text("3"))]))]))]));
    }

    #[test]
    fn broken_brackets_are_one_name() {
        assert_eq!(parse([b"", b"a[b=1"]), branch([("a[b", text("1"))]));
    }
}
