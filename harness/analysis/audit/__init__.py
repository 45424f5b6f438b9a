"""The audit: how much of a general chatbot is a model that was tuned for one task?"""
