//! Imported scripts as modules whose functions find each other.
//!
//! The interpreter remembers which function a name meant and does not forget it when it enters a function of another
//! module, so that an unqualified call in one module can end in the function of that name in another: a check of `MariaDB`
//! in the `baseline` of PostgreSQL. Therefore each function of a module is called with a memory of its own.

use std::any::TypeId;

use rhai::{
    AST, CallFnOptions, Dynamic, Engine, EvalAltResult, FnAccess, FuncRegistration, Module, NativeCallContext,
    RhaiFunc, Scope, Shared, Stmt,
};

use super::RhaiResultOf;

/// The module of a compiled script: its public functions and what it exports.
pub(super) fn of(ast: &AST, engine: &Engine) -> RhaiResultOf<Module> {
    let evaluated = Module::eval_ast_as_new(Scope::new(), ast, engine)?;
    let mut module = Module::new();
    module.set_id(ast.source().unwrap_or_default());
    for (name, value) in evaluated.iter_var() {
        module.set_var(name, value.clone());
    }
    let callable = Shared::new(functions_and_imports(ast));
    for function in ast.iter_functions().filter(|function| function.access == FnAccess::Public) {
        let (name, ast) = (function.name.to_owned(), callable.clone());
        let call = move |ctx: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
            let Some(ctx) = ctx else { return Ok(Dynamic::UNIT) };
            call(&ctx, &ast, &name, arguments)
        };
        FuncRegistration::new(function.name).with_params_info(function.params.clone()).set_into_module_raw(
            &mut module,
            vec![TypeId::of::<Dynamic>(); function.params.len()],
            RhaiFunc::Pure { func: Shared::new(call), has_context: true, is_pure: true, is_volatile: true },
        );
    }
    module.build_index();
    Ok(module)
}

/// The script without what it does when it is imported: its functions need its imports and constants at each call.
fn functions_and_imports(ast: &AST) -> AST {
    let needed = ast.statements().iter().filter(|statement| matches!(statement, Stmt::Import(..) | Stmt::Var(..)));
    let mut needed = AST::new(needed.cloned(), ast.shared_lib().clone());
    if let Some(source) = ast.source() {
        needed.set_source(source);
    }
    needed
}

fn call(ctx: &NativeCallContext, ast: &AST, name: &str, arguments: &mut [&mut Dynamic]) -> RhaiResultOf<Dynamic> {
    let arguments: Vec<Dynamic> = arguments.iter_mut().map(|argument| argument.take()).collect();
    let options = CallFnOptions::new().eval_ast(true);
    ctx.engine().call_fn_with_options::<Dynamic>(options, &mut Scope::new(), ast, name, arguments).map_err(|error| {
        if error.is_system_exception() {
            return error;
        }
        let source = ast.source().unwrap_or_default().to_owned();
        EvalAltResult::ErrorInFunctionCall(name.to_owned(), source, error, ctx.call_position()).into()
    })
}
