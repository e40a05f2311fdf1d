//! [`Visit`]: what the fields of a module may be, so that [`visit_fields!`](crate::visit_fields) finds the parameters in them.

use tensor::Element;

use super::module::{Module, join};
use super::parameter::Parameter;

/// A part of a module: a [`Parameter`], a [`Module`], or an `Option`, a `Box` or a list of parts (PyTorch's `nn.ModuleList`). The
/// parts of a list are named by their numbers, as in `convs.0.weight`.
///
/// `K` only tells the compiler which of these it is, since a type that is one today could become another, too; it finds `K` by
/// itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no part of a module over `{T}`",
    note = "fields for `visit_fields!` are modules, `Parameter`s, and `Option`, `Box` or `Vec` of those"
)]
pub trait Visit<T: Element, K: ?Sized> {
    /// [`Module::visit`] of the part, whose name is `path`.
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>));

    /// [`Module::visit_mut`] of the part.
    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>));
}

impl<T: Element> Visit<T, Parameter<T>> for Parameter<T> {
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Self)) {
        visit(path.to_owned(), self);
    }

    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Self)) {
        visit(path.to_owned(), self);
    }
}

impl<T: Element, M: Module<T>> Visit<T, dyn Module<T>> for M {
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        self.visit(path, visit);
    }

    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        self.visit_mut(path, visit);
    }
}

impl<T: Element, K: ?Sized, V: Visit<T, K>> Visit<T, Option<Box<K>>> for Option<V> {
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        self.iter().for_each(|part| part.visit_part(path, visit));
    }

    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        self.iter_mut().for_each(|part| part.visit_part_mut(path, visit));
    }
}

/// A `Box<dyn Module<T>>` is a module.
impl<T: Element, K: ?Sized, V: Visit<T, K>> Visit<T, Box<K>> for Box<V> {
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        (**self).visit_part(path, visit);
    }

    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        (**self).visit_part_mut(path, visit);
    }
}

impl<T: Element, K: ?Sized, V: Visit<T, K>> Visit<T, Vec<Box<K>>> for Vec<V> {
    fn visit_part<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        self.iter().enumerate().for_each(|(number, part)| part.visit_part(&join(path, number), visit));
    }

    fn visit_part_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        self.iter_mut()
            .enumerate()
            .for_each(|(number, part)| part.visit_part_mut(&join(path, number), visit));
    }
}

#[cfg(test)]
mod tests {
    use autograd::{Context, Tape};
    use tensor::Tensor;
    use tensor::init::Init;

    use super::*;
    use crate::nn::{
        Conv2d, Linear, Output, Planned, Relu, Sequential, initialize, parameters, parameters_mut,
    };

    /// A field of each kind, and some of several.
    #[derive(Debug)]
    struct Parts {
        convs: Vec<Conv2d<f64>>,
        scales: Vec<Option<Parameter<f64>>>,
        pairs: Vec<Vec<Conv2d<f64>>>,
        heads: Vec<Box<dyn Module<f64>>>,
        last: Option<Box<Conv2d<f64>>>,
        none: Option<Linear<f64>>,
        relu: Relu,
    }

    impl Module<f64> for Parts {
        fn forward<'t>(&self, x: autograd::Var<'t, f64>) -> Output<'t, f64> {
            let x = self.convs.iter().try_fold(x, |x, conv| conv.forward(x))?;
            let x = self.relu.forward(self.scales.iter().flatten().try_fold(x, |x, own| {
                let own = own.on(&x);
                x.mul(own)
            })?)?;
            let x = self.pairs.iter().flatten().try_fold(x, |x, conv| conv.forward(x))?;
            let x = self.heads.iter().try_fold(x, |x, head| head.forward(x))?;
            self.last.iter().try_fold(x, |x, conv| conv.forward(x))
        }

        crate::visit_fields!(f64: convs, scales, pairs, heads, last, none, relu);
    }

    fn conv() -> Conv2d<f64> {
        Conv2d::new(1, 1, 1, 1, 0)
    }

    fn parts() -> Parts {
        let scale = || Parameter::constant([1], 2.0);
        Parts {
            convs: vec![conv(), conv().without_bias()],
            scales: vec![None, Some(scale())],
            pairs: vec![vec![conv(), conv()]],
            heads: vec![Box::new(Relu), Box::new(Sequential::new().with(conv()).with(Relu))],
            last: Some(Box::new(conv())),
            none: None,
            relu: Relu,
        }
    }

    const NAMES: [&str; 12] = [
        "convs.0.weight",
        "convs.0.bias",
        "convs.1.weight",
        "scales.1",
        "pairs.0.0.weight",
        "pairs.0.0.bias",
        "pairs.0.1.weight",
        "pairs.0.1.bias",
        "heads.1.0.weight",
        "heads.1.0.bias",
        "last.weight",
        "last.bias",
    ];

    #[test]
    fn parameters_are_found_in_fields_of_every_kind() {
        let mut net = parts();
        initialize(&mut net, Init::Constant(3.0), Init::Constant(0.5), 0);
        let mut names: Vec<_> = parameters_mut(&mut net).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, NAMES);
        names = parameters(&net).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, NAMES);
        let tape = Tape::new(Context::default());
        let y = net.forward(tape.constant(Tensor::full([1, 1, 1, 1], 1.0))).unwrap();
        // Twice 3 x 3.5 is 21; of three convolutions with a weight of 3 and a bias of 1/2, and the last.
        let expected = [(); 4].iter().fold(21.0, |x, ()| 3.0 * x + 0.5);
        assert_eq!(y.value().data(), [expected]);
        let gradients = tape.backward(y).unwrap();
        assert!(parameters(&net).iter().all(|(_, own)| gradients.parameter(own.identity).is_some()));
    }

    #[test]
    fn a_boxed_module_is_the_module() {
        let context = Context::default();
        let mut boxed: Box<dyn Module<f64>> = Box::new(Planned::new(parts()));
        let plan = |module: &dyn Module<f64>| module.plan(&context, [1, 1, 2, 2].into()).unwrap();
        let net = Sequential::new().with(parts());
        let names: Vec<_> = parameters(&boxed).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, NAMES);
        assert_eq!(parameters_mut(&mut boxed).len(), NAMES.len());
        assert!(std::sync::Arc::ptr_eq(&plan(&boxed), &plan(&boxed)), "it keeps its plans");
        let ops = |module: &dyn Module<f64>| plan(module).graph().nodes().len();
        assert_eq!(ops(&boxed), ops(&net));
        let nested = Sequential::new().with(boxed);
        assert_eq!(parameters(&nested)[0].0, "0.convs.0.weight");
    }
}
