from fastapi import APIRouter

from bots.web_pictures import Brought
from core.house import House


def painting(house: House, brought: Brought) -> APIRouter:
    return APIRouter()
