"""Text as the language model reads it: chat templates, what a visitor writes taken literally, Llama-2's tokenizer."""
