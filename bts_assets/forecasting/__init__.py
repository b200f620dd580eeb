"""From the panel of past observations to quantiles of the next days. It asks no database and no clock."""

import pandas as pd

# Bottleneck is here for its medians of moving windows. pandas would take its means from it as well, which adds in
# another order than pandas does: figures would depend on whether it is installed.
pd.set_option("compute.use_bottleneck", False)
