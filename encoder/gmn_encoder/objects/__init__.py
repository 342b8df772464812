"""Objects to make NeRFs of: mesh files, procedural objects, their views and the language about the latter.

`mesh.py` is the record, `mesh_files.py` reads files and `colours.py` their colours, `casting.py` and `views.py` take pictures,
`procedural/` makes objects from seeds and `language.py` says what they look like.
"""

from .language import conversations, write_texts
from .mesh import Mesh
from .mesh_files import load_mesh
from .procedural import CLASS_IDS, CLASS_NAMES, ProceduralObject, generate, generate_dataset
from .views import Views, ViewSettings, render_mesh, render_views

__all__ = [
    "CLASS_IDS",
    "CLASS_NAMES",
    "Mesh",
    "ProceduralObject",
    "ViewSettings",
    "Views",
    "conversations",
    "generate",
    "generate_dataset",
    "load_mesh",
    "render_mesh",
    "render_views",
    "write_texts",
]
