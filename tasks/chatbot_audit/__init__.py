"""What a chatbot meets: how a model that was tuned for something else takes it."""
