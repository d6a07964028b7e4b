//! What the edge knows, decoded from its replica.

use std::future::Future;
use std::sync::Arc;

use mezusphere_model::Clock;
use mezusphere_model::link::ControlLink;

/// Everything the edge knows, ready to be decided on. One per edge, shared by all workers.
pub struct View {
    clock: Clock,
}

impl View {
    /// A view that is empty until [`View::follow`] runs. (Gets the replica as its first argument next.)
    pub fn new(link: Arc<dyn ControlLink>, clock: Clock) -> Arc<Self> {
        drop(link);
        Arc::new(Self { clock })
    }

    /// Keeps the view as fresh as its replica. The owner runs it once, on any worker; ends when dropped.
    pub fn follow(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let _ = &self.clock;
        std::future::pending()
    }
}
