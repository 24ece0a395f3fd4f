"""An animatic: a character cut out of its picture and bent along the dancer's bones, like a figure of
paper."""
