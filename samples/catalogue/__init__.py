"""The data sets that Revet knows: cards, local files, splits for the first detector and for replay."""
