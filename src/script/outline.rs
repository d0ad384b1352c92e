//! What a script calls, imports and defines, read from its syntax tree without running it.

use rhai::{AST, ASTNode, Dynamic, Expr, FnCallExpr, Position, Stmt};

/// A function call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Namespaces in front of the name.
    pub namespace: Vec<String>,
    /// The function's name.
    pub name: String,
    /// How many arguments it is given; for a method call without the object.
    pub arity: usize,
    /// It is written `object.name(…)`.
    pub method: bool,
    /// The arguments that are written out; `None` for what is computed.
    pub literals: Vec<Option<Dynamic>>,
    /// Where it is.
    pub position: Position,
}

impl Call {
    /// The text given as that argument, if it is written out.
    pub(super) fn text(&self, argument: usize) -> Option<String> {
        let value = self.literals.get(argument)?.as_ref()?;
        value.as_immutable_string_ref().ok().map(|text| text.to_string())
    }

    /// Whether it is a call of that function of this program.
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        !self.method
            && self.name == name
            && self.namespace.iter().map(String::as_str).eq(Some(namespace).filter(|n| !n.is_empty()))
    }
}

/// An `import`.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// What is imported; `None` when it is computed.
    pub path: Option<String>,
    /// The namespace it becomes; empty for none.
    pub alias: String,
    /// Where it is.
    pub position: Position,
}

/// What a script calls, imports and defines.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    /// Calls, also those in functions and closures.
    pub calls: Vec<Call>,
    /// Imports, also those in functions and closures.
    pub imports: Vec<Import>,
    /// Names and arities of its functions.
    pub functions: Vec<(String, usize)>,
}

impl Outline {
    /// Reads a syntax tree.
    pub(super) fn of(ast: &AST) -> Self {
        let mut outline = Self::default();
        let functions = ast.iter_functions().filter(|function| !function.name.starts_with("anon$"));
        outline.functions = functions.map(|function| (function.name.to_owned(), function.params.len())).collect();
        ast.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::MethodCall(call, position))) => outline.call(call, *position, true),
                Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position))) => {
                    outline.call(call, *position, false);
                }
                Some(ASTNode::Stmt(Stmt::Import(import, position))) => {
                    let path = import.0.get_literal_value(None).and_then(|path| path.into_immutable_string().ok());
                    outline.imports.push(Import {
                        path: path.map(|path| path.to_string()),
                        alias: import.1.name.to_string(),
                        position: *position,
                    });
                }
                _ => {}
            }
            true
        });
        outline
    }

    fn call(&mut self, call: &FnCallExpr, position: Position, method: bool) {
        if call.op_token.is_some() {
            return;
        }
        let namespaced = call.namespace.path.first().map(|first| first.pos);
        self.calls.push(Call {
            namespace: call.namespace.path.iter().map(|part| part.name.to_string()).collect(),
            name: call.name.to_string(),
            arity: call.args.len(),
            method,
            literals: call.args.iter().map(|arg| arg.get_literal_value(None)).collect(),
            position: namespaced.filter(|position| !position.is_none()).unwrap_or(position),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::engine;

    #[test]
    fn calls_are_found_wherever_they_are() {
        let script = "import \"lib/a\" as a;\nfn f(x) { file::write(\"pod\", x) }\nlet y = 1;\n\
                      step(\"s\", || { f(`pod ${a::name(y)}`); [1].map(|z| json::text(z)) });\nlet u = y + wait::sleep(5);";
        let outline = Outline::of(&engine::bare().compile(script).unwrap());
        let name = |call: &Call| [call.namespace.as_slice(), std::slice::from_ref(&call.name)].concat().join("::");
        let mut found: Vec<_> = outline.calls.iter().map(|call| (name(call), call.arity, call.method)).collect();
        found.retain(|(name, ..)| name != "curry");
        found.sort();
        let expected = [
            ("a::name", 1, false),
            ("f", 1, false),
            ("file::write", 2, false),
            ("json::text", 1, false),
            ("map", 1, true),
            ("step", 2, false),
            ("wait::sleep", 1, false),
        ];
        assert_eq!(found, expected.map(|(name, arity, method)| (name.to_owned(), arity, method)));
        assert_eq!(outline.functions, [("f".to_owned(), 1)]);
        assert_eq!(outline.imports[0].path.as_deref(), Some("lib/a"));
        let write = outline.calls.iter().find(|call| call.is("file", "write")).unwrap();
        assert_eq!(
            (write.text(0).as_deref(), write.text(1), write.position),
            (Some("pod"), None, Position::new(2, 11))
        );
    }
}
