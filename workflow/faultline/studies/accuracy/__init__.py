"""How accurate is each network, clean and under attack, and can the attacks be believed?"""
