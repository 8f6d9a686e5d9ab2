"""Which training is the most robust, and does regularising layers help (Khalooei et al. 2022)?"""
