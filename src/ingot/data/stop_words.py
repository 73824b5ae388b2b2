"""Stop words: the commonest words of a language, which say nothing of what a text is about. Short lists."""

from __future__ import annotations

_LISTS = {
    "de": (
        "der die das den dem des ein eine einen einem einer und oder aber nicht auch ist sind war waren "
        "wird werden hat haben ich du er sie es wir ihr in im an am auf aus bei mit nach von vom zu zum "
        "zur für über um als wie wenn dass so noch nur sich dieser diese dieses man kein keine"
    ),
    "en": (
        "a an the and or but nor not no of to in on at by for from with as into about over under than "
        "then so if that this these those there here it its he him his she her they them their we us "
        "our you your i me my is am are was were be been being has have had do does did will would can "
        "could shall should may might must which who whom whose what when where why how all any both "
        "each some such only own same too very just"
    ),
    "es": (
        "el la los las un una unos unas y o pero no ni de del a al en con por para sin sobre entre que "
        "como cuando donde si se su sus lo le les me te nos es son era eran ser está están ha han había "
        "este esta estos estas ese esa muy más también ya"
    ),
    "fr": (
        "le la les l un une des du de d et ou mais ne pas ni à au aux en dans par pour sur avec sans "
        "sous que qu qui quoi dont où comme si se s son sa ses leur leurs ce cet cette ces il elle ils "
        "elles je tu nous vous on y est sont était étaient être a ont avait avoir plus très aussi"
    ),
    "it": (
        "il lo la i gli le l un uno una e o ma non né di del della dei delle a al alla in nel nella con "
        "su sul per tra fra da dal dalla che chi come quando dove se si suo sua suoi sue ci vi è sono "
        "era erano essere ha hanno aveva questo questa questi queste più anche molto già"
    ),
    "nl": (
        "de het een en of maar niet geen van in op te met voor aan om bij uit naar door over als dan "
        "dat die dit deze er hij zij ze het ik je u we wij hun zijn is was waren wordt worden heeft "
        "hebben had kan ook nog wel zo zich"
    ),
    "pl": (
        "i oraz a ale lub nie w we z ze na do od po o u za przez dla przy pod nad że co jak gdy czy to "
        "ten ta te tego tej tych jest są był była było były być się on ona ono oni ja ty my jego jej "
        "ich już tylko też tak"
    ),
    "pt": (
        "o a os as um uma uns umas e ou mas não nem de do da dos das em no na nos nas com por para sem "
        "sobre entre que como quando onde se seu sua seus suas lhe lhes me te nós é são era eram ser "
        "está estão tem têm foi este esta isto esse essa mais muito também já ao à"
    ),
    "ru": (
        "и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по только ее её "
        "мне было вот от меня о из ему при для до или ни быть был была были это этот эта эти они мы их "
        "чем где когда если уже есть"
    ),
    "sv": (
        "och eller men inte en ett den det de dem att som i på av för med till från om ut över under "
        "vid är var vara har hade blir blev kan ska skulle jag du han hon vi ni sin sitt sina man när "
        "där här så än också bara mycket"
    ),
}

STOP_WORDS: dict[str, frozenset[str]] = {code: frozenset(words.split()) for code, words in _LISTS.items()}
"""By language, as a two-letter code of ISO 639-1; all in lower case."""
