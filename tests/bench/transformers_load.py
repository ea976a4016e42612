"""Loads a folder with transformers and tells what it had to say."""
import logging
import warnings

import transformers


class Complaints(logging.Handler):
    """What transformers logs or warns meanwhile."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def __enter__(self):
        logging.getLogger("transformers").addHandler(self)
        self.catcher = warnings.catch_warnings(record=True)
        self.caught = self.catcher.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *error):
        self.catcher.__exit__(*error)
        logging.getLogger("transformers").removeHandler(self)
        self.texts += [str(w.message) for w in self.caught if "transformers" in str(w.filename)]

    def emit(self, record):
        self.texts.append(record.getMessage())


def load_model(folder, **options):
    """The model, and every complaint: texts, and kinds of tensors that were not as they should be."""
    with Complaints() as complaints:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    return model, complaints.texts + [f"{kind}: {names}" for kind, names in info.items() if names]
