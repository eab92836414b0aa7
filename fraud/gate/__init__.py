"""Whether a challenger may take the place of the champion."""
