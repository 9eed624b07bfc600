"""Training loops of the zoo: Lightning modules, stages that resume, progress. Needs the extra ``zoo``."""

from zoo.extras import require

require("lightning", "rich")
