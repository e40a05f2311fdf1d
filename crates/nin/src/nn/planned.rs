//! [`Planned`]: a module that is traced once.

use std::sync::{Arc, Mutex, PoisonError};

use autograd::{AutogradError, Context, Plan, Var};
use tensor::{Element, Shape, lock};

use super::module::Module;
use super::parameter::Parameter;

/// The most plans that are kept: as many as there are sizes of images and of micro-batches at a time. The oldest goes first.
const PLANS: usize = 16;

/// A module with the plans of its passes, each made when an input of its shape first comes.
///
/// Parameters may change at will, and may be frozen; to change what the module computes, [`Planned::get_mut`] gives it out and
/// drops the plans. That no module is traced twice saves some 50 microseconds a step, which counts where a step is short.
#[derive(Debug)]
pub struct Planned<T: Element, M> {
    module: M,
    plans: Mutex<Vec<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T: Element> {
    input: Shape,
    training: bool,
    /// None of an evaluation: which of the parameters learn.
    learns: Option<Vec<bool>>,
    plan: Arc<Plan<T>>,
}

impl<T: Element, M: Module<T>> Planned<T, M> {
    /// A module without plans yet.
    pub fn new(module: M) -> Self {
        Self { module, plans: Mutex::default() }
    }

    /// The module.
    pub fn get(&self) -> &M {
        &self.module
    }

    /// The module, to be changed. Its plans are dropped.
    pub fn get_mut(&mut self) -> &mut M {
        self.plans.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        &mut self.module
    }
}

impl<T: Element, M: Module<T>> Module<T> for Planned<T, M> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        self.module.forward(x)
    }

    fn plan(&self, context: &Context, input: Shape) -> Result<Arc<Plan<T>>, AutogradError> {
        let learns = context.grad_enabled.then(|| {
            let mut learns = Vec::new();
            self.module.visit("", &mut |_, parameter| learns.push(parameter.requires_grad));
            learns
        });
        let mut plans = lock(&self.plans);
        if let Some(known) = plans.iter().find(|entry| {
            (entry.input, entry.training) == (input, context.training) && entry.learns == learns
        }) {
            return Ok(Arc::clone(&known.plan));
        }
        let plan = self.module.plan(context, input)?;
        if plans.len() == PLANS {
            plans.remove(0);
        }
        plans.push(Entry { input, training: context.training, learns, plan: Arc::clone(&plan) });
        Ok(plan)
    }

    fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        self.module.visit(path, visit);
    }

    fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        self.module.visit_mut(path, visit);
    }
}

#[cfg(test)]
mod tests {
    use tensor::BufferPool;

    use super::*;
    use crate::nn::{Dropout, Linear, Sequential, freeze};

    #[test]
    fn a_plan_is_made_once_for_each_shape_and_use() {
        let mut net = Planned::new(Sequential::<f32>::new().with(Linear::new(3, 2)).with(Dropout { p: 0.5 }));
        let (training, evaluation) = (Context::default(), Context::evaluation(BufferPool::new()));
        let plan =
            |net: &Planned<_, _>, context: &Context, n: usize| net.plan(context, [n, 3].into()).unwrap();
        let first = plan(&net, &training, 4);
        assert!(Arc::ptr_eq(&first, &plan(&net, &training, 4)));
        assert!(!Arc::ptr_eq(&first, &plan(&net, &training, 5)));
        let evaluated = plan(&net, &evaluation, 4);
        let ops = |plan: &Plan<f32>| plan.graph().nodes().iter().filter(|node| node.is_op()).count();
        assert_eq!((ops(&first), ops(&evaluated)), (2, 1), "evaluation drops nothing out");
        freeze(&mut net, "0.weight");
        assert!(!Arc::ptr_eq(&first, &plan(&net, &training, 4)), "another parameter learns");
        assert!(Arc::ptr_eq(&evaluated, &plan(&net, &evaluation, 4)));
        *net.get_mut() = Sequential::new();
        assert_eq!(ops(&plan(&net, &evaluation, 4)), 0);
        for n in 1..100 {
            plan(&net, &evaluation, n);
        }
        assert_eq!(net.plans.lock().unwrap().len(), PLANS);
    }
}
